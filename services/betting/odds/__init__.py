"""Prices: the rules of a market's quote, who publishes them, and who watches."""
