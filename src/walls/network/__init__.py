"""Networks: cut into backbone and head, put behind a wall, certified; named ones."""
