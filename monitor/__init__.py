"""Everything that moves events: capture, transport, decode, window, judge."""
