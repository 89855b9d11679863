"""The output on a terminal of 80 columns or more; nothing here makes pictures or pages."""
