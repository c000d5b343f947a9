"""`make bench`: workloads as ratios against the limits of the same machine, in one run.

Absolute figures drift with the machine; each workload is run in turns with its limit, several
times, and the medians of both give the ratio. Nothing here asserts anything.
"""
