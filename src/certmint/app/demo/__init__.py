"""`make demo`: the router story of DESIGN.md, section 1, on real parts, in a folder of its own.

Everything is the product itself but for the world around it: a small DNS server on loopback, a
router that is a Python process, and a clock that puts one factory run into the past.
"""
