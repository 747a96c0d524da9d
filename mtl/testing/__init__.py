"""Test suites that strategies of other packages inherit."""
