-- Helpers of this session only. SQL functions of one expression: Postgres inlines them.

-- An unsigned number of 1 to 7 bytes, or a signed one of 8, big-endian; offsets count from 0 as in the layout tables.
CREATE FUNCTION pg_temp.number_at(body bytea, at int, size int) RETURNS bigint IMMUTABLE LANGUAGE sql
RETURN substr(body, at + 1, size)::bigint;

CREATE FUNCTION pg_temp.uuid_at(body bytea, at int) RETURNS uuid IMMUTABLE LANGUAGE sql
RETURN encode(substr(body, at + 1, 16), 'hex')::uuid;

-- The first 128 bits of SHA-256, marked as UUID version 8 (RFC 9562, 5.8).
CREATE FUNCTION pg_temp.uuid8_of_hash(hash bytea) RETURNS uuid IMMUTABLE LANGUAGE sql
RETURN encode(
    set_byte(
        set_byte(substr(hash, 1, 16), 6, get_byte(hash, 6) & 15 | 128),
        8, get_byte(hash, 8) & 63 | 128
    ), 'hex')::uuid;

-- The length a body must have by its kind and the counts inside it; NULL when the kind is unknown or a count is cut off.
CREATE FUNCTION pg_temp.right_length(kind int, body bytea) RETURNS int IMMUTABLE LANGUAGE sql
RETURN CASE kind
    WHEN 1 THEN 19
    WHEN 2 THEN 48
    WHEN 3 THEN 48
    WHEN 10 THEN CASE WHEN length(body) >= 33 THEN 42 + 55 * get_byte(body, 32) END
    WHEN 11 THEN CASE
        WHEN length(body) < 28 THEN NULL
        WHEN get_byte(body, 27) IN (2, 3) THEN 36
        WHEN get_byte(body, 27) = 10 AND length(body) >= 38 THEN 38 + 18 * get_byte(body, 37)
    END
    WHEN 20 THEN CASE WHEN length(body) >= 5 THEN 5 + 3 * get_byte(body, 4) END
    WHEN 21 THEN 14
    WHEN 22 THEN CASE WHEN length(body) >= 22 THEN 22 + 16 * substr(body, 21, 2)::int END
    WHEN 23 THEN 22
    WHEN 24 THEN CASE WHEN length(body) >= 47 THEN 47 + 26 * get_byte(body, 46) END
    WHEN 25 THEN 20
END;

-- Exact product of any number of factors; NULLs are left out.
CREATE AGGREGATE pg_temp.product(numeric) (sfunc = numeric_mul, stype = numeric, initcond = '1');
