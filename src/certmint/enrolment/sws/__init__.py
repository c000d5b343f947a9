"""The use cases of SWS clients: orders, how their domains are proved, what becomes of them."""
