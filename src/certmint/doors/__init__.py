"""Wire formats: a door decodes, authenticates and limits, hands on values, and decides nothing."""
