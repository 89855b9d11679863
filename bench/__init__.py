"""How training is measured: cases, launches, results and reports.

Models, data and loops are not here, but in `fmnist_models`.
"""
