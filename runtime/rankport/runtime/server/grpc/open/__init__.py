"""Services that are open to everyone: health and reflection. They are no work, and bound what a stranger may send."""
