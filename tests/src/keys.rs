//! A shop's keys in Redis, which it shares with the shops of other tests.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::shop::Shop;

impl Shop {
    /// A connection to this shop's Redis.
    pub async fn redis(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis_url()).unwrap();
        client
            .get_multiplexed_async_connection()
            .await
            .expect("REDIS_URL names a Redis that answers")
    }

    /// Every key of this log.
    pub async fn redis_keys(&self) -> Vec<String> {
        let mut connection = self.redis().await;
        let pattern = self.runtime.redis.key("*");
        let (mut cursor, mut keys) = (0_u64, Vec::new());
        loop {
            let page: (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(1_000)
                .query_async(&mut connection)
                .await
                .unwrap();
            keys.extend(page.1);
            cursor = page.0;
            if cursor == 0 {
                return keys;
            }
        }
    }

    /// Empties Redis as FLUSHALL would, in one step, but of this log's keys only.
    pub async fn empty_redis(&self) {
        let script = "local cursor = '0'
            repeat
              local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
              cursor = page[1]
              for _, key in ipairs(page[2]) do redis.call('DEL', key) end
            until cursor == '0'";
        redis::cmd("EVAL")
            .arg(script)
            .arg(0)
            .arg(self.runtime.redis.key("*"))
            .exec_async(&mut self.redis().await)
            .await
            .unwrap();
    }

    /// Leaves nothing behind in Redis, if it is there.
    pub(crate) async fn forget_redis(&self) {
        let answers = tokio::time::timeout(Duration::from_secs(2), self.runtime.redis.ping()).await;
        if matches!(answers, Ok(Ok(()))) {
            self.empty_redis().await;
        }
    }
}
