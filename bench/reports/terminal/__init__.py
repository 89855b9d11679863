"""Tables and lines on a terminal of 80 columns or more."""
