"""A study as one offline page: figures, tables, and the files behind them."""
