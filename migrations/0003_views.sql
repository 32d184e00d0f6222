-- The read models in Postgres. Each can be dropped and rebuilt from the log at any time (DESIGN V4).
-- A rebuild makes each table again beside this one with LIKE … INCLUDING ALL and swaps it in, so indexes carry
-- Postgres' own names, and nothing may refer to these tables by foreign key.
-- Every row says up to which position it is made of: an event is never applied to it twice (V2).

CREATE TABLE products
(
    id          text        PRIMARY KEY,
    sku         text        NOT NULL,
    name        text        NOT NULL,
    description text        NOT NULL,
    category    text        NOT NULL,
    price_minor bigint      NOT NULL,
    currency    text        NOT NULL,
    on_hand     bigint      NOT NULL,
    reserved    bigint      NOT NULL,
    available   bigint      NOT NULL,
    units_sold  bigint      NOT NULL,
    listed      boolean     NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    version     bigint      NOT NULL,
    position    bigint      NOT NULL
);
CREATE INDEX ON products (lower(name) COLLATE "C", id);
CREATE INDEX ON products (price_minor, id);
CREATE INDEX ON products (created_at, id);
CREATE INDEX ON products (category, id);
CREATE INDEX ON products (units_sold, id);
CREATE INDEX ON products (sku);

CREATE TABLE orders
(
    id               text        PRIMARY KEY,
    customer_id      text        NOT NULL,
    status           text        NOT NULL,
    total_minor      bigint      NOT NULL,
    refunded_minor   bigint      NOT NULL,
    currency         text        NOT NULL,
    items            json        NOT NULL,
    shipping_address json        NOT NULL,
    timeline         json        NOT NULL,
    placed_at        timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    version          bigint      NOT NULL,
    position         bigint      NOT NULL
);
CREATE INDEX ON orders (placed_at, id);
CREATE INDEX ON orders (customer_id, placed_at, id);
CREATE INDEX ON orders (status, placed_at, id);

CREATE TABLE users
(
    id            text        PRIMARY KEY,
    email         text        NOT NULL,
    name          text        NOT NULL,
    phone         text,
    roles         text[]      NOT NULL,
    active        boolean     NOT NULL,
    registered_at timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    version       bigint      NOT NULL,
    position      bigint      NOT NULL
);
CREATE INDEX ON users (registered_at, id);

-- What happened in an hour (UTC), by currency. Amounts in minor units.
CREATE TABLE sales
(
    hour             timestamptz NOT NULL,
    currency         text        NOT NULL,
    orders_placed    bigint      NOT NULL,
    orders_confirmed bigint      NOT NULL,
    orders_rejected  bigint      NOT NULL,
    orders_cancelled bigint      NOT NULL,
    pieces           bigint      NOT NULL,
    placed_minor     bigint      NOT NULL,
    confirmed_minor  bigint      NOT NULL,
    cancelled_minor  bigint      NOT NULL,
    refunded_minor   bigint      NOT NULL,
    position         bigint      NOT NULL,
    PRIMARY KEY (hour, currency)
);
