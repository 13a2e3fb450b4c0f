"""Measurements as a page that anybody can open: HTML with its plots inside, and nothing from elsewhere."""
