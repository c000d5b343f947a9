"""Where we call out to networks that we do not trust: DNS today, http-01 and tls-alpn-01 later.

Everything here has a deadline, asks only the resolvers and servers it was given, and returns
what it saw; what that is worth, enrolment and policy decide.
"""
