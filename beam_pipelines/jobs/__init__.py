"""Jobs over units: what a unit is, the graphs that carry it, the runners, the shuffle."""
