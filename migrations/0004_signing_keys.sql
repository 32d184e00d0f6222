-- What access tokens are signed with. Every process reads all of them, signs with the newest and accepts any, so a key
-- can be added without logging anybody out.
CREATE TABLE signing_keys
(
    kid        text        PRIMARY KEY,
    pkcs8      bytea       NOT NULL,
    public     bytea       NOT NULL,
    created_at timestamptz NOT NULL
);

COMMENT ON TABLE signing_keys IS 'Ed25519 key pairs of access tokens; secret';
COMMENT ON COLUMN signing_keys.kid IS 'names the key in the header of a token';
COMMENT ON COLUMN signing_keys.pkcs8 IS 'the private key, PKCS#8';
COMMENT ON COLUMN signing_keys.public IS 'the public key, 32 bytes';
