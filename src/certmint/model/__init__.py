"""The nouns and their laws: what certmint talks about, and what can never be true of it.

Everything here is a value. Nothing here reads a clock, a file, a socket or a database:
time, randomness and keys come in as arguments. An illegal value cannot be constructed.
"""
