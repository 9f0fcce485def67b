-- Every opening of an account, with whose it is and in which currency.
SELECT shard, sequence, account, substr(body, 1, 16) AS user_bytes, substr(body, 17, 3) AS currency_bytes
FROM entry
WHERE kind = 1 AND sound
