"""The door for clients of SSL.com's SWS API."""
