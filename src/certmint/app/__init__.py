"""The rim: configuration, wiring, the server, jobs, the command line. Clocks are read here."""
