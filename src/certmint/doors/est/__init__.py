"""EST, Enrollment over Secure Transport: RFC 7030 as RFC 8951 and RFC 9908 have changed it."""
