"""What goes wrong in a stock pair, each thing with a number: see `weaknesses`, one level up."""
