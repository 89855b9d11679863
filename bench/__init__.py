"""How training is measured: cases, launches, results, and what people see of them."""
