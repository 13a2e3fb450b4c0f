"""Events made for measuring, sent in time, and the latencies that came of it."""
