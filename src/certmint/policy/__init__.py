"""May this requester have this certificate? Pure: `decide(request, facts, now)`.

A rule is a function with one stable code, one case file and one source. Rules that differ per
customer are data in the profile or the product, never code branches and never plug-ins.
"""
