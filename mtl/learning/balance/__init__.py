"""How several tasks' losses, or their gradients, become one update: TorchJD's methods, fed with what a step has.

Legend: K tasks, m tasks of a step, P shared parameters. The loss of a task is
``l_k = sum_i w_i loss_i / sum_i w_i`` over its examples of the whole step, with the weights ``w_i`` of the strategy's
reduction.
"""
