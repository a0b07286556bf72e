"""Other people's products. Each module needs an extra of its own, and nothing imports it but its users."""
