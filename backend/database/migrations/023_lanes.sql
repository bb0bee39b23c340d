-- Several accounts that send orders in parallel.

-- signed: how many orders these accounts have signed on a network. The statement that signs an order takes the next number,
--     so what one process added up is what all have spent.
CREATE TABLE IF NOT EXISTS order_counts (
    chain_id bigint PRIMARY KEY,
    signed bigint NOT NULL
);

SELECT protect_tables('order_counts'::regclass);
