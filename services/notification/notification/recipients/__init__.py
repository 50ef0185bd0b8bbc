"""Who a recipient is, what they want, and what may reach them."""
