"""Networks: what is cut into backbone and head, put behind a wall and certified; named ones and their weights."""
