-- A product's row is updated with every piece that is reserved, many rows of a page in one transaction. Half-filled pages
-- keep the new versions beside the old, where they need no index entries and are cleared away in passing (HOT updates).
ALTER TABLE products SET (fillfactor = 50);
ALTER TABLE sales SET (fillfactor = 50);
