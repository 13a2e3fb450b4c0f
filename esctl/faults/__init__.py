"""What a fault on purpose is: its shape, its orders, its lease, links that are cut."""
