"""What was released, and what it cost: events, curves and accountants."""
