//! The records of sessions in Redis.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use kontor_domain::{SessionId, UserId};
use kontor_projections::mirror::Redis;
use redis::{RedisError, Script};

use super::secret::{NoRandomness, RefreshToken, random};

/// How long sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTerms {
    /// Without being used.
    pub idle: Duration,
    /// In all.
    pub longest: Duration,
    /// How long a token that has just been replaced still gets the answer that replaced it: two tabs of a browser renew at
    /// the same moment, and an answer may be lost on its way. After that it proves that somebody has a copy.
    pub grace: Duration,
}

impl Default for SessionTerms {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30 * 24 * 60 * 60),
            longest: Duration::from_secs(90 * 24 * 60 * 60),
            grace: Duration::from_secs(10),
        }
    }
}

/// Redis does not answer, and nobody else knows of sessions.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// It is away.
    #[error("redis does not answer for sessions: {0}")]
    Redis(#[from] RedisError),
    /// It has to do with this machine.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// Of a session's client, kept so that people recognise it in their list.
const LONGEST_AGENT: usize = 120;
/// Sessions of one account; the oldest ends when there is one more.
const MOST: usize = 100;

/// Begins a session. KEYS: the session, the sessions of its user. ARGV: id, user, family, token, credential, agent, now, seconds to
/// live without use and in all, most sessions, what keys of sessions begin with. Answers the ids of those that made room.
static START: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('HSET', KEYS[1], 'user', ARGV[2], 'family', ARGV[3], 'current', ARGV[4], 'previous', '', 'salt', '', 'rotated', 0,
  'credential', ARGV[5], 'coming', '', 'agent', ARGV[6], 'created', ARGV[7], 'used', ARGV[7])
redis.call('EXPIRE', KEYS[1], math.min(tonumber(ARGV[8]), tonumber(ARGV[9])))
redis.call('ZADD', KEYS[2], ARGV[7], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[9])
local ended = {}
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[10])
if over > 0 then
  local popped = redis.call('ZPOPMIN', KEYS[2], over)
  for i = 1, #popped, 2 do
    redis.call('DEL', ARGV[11] .. popped[i])
    ended[#ended + 1] = popped[i]
  end
end
return ended
",
    )
});

/// Replaces the token of a session. KEYS: the session. ARGV: family, token, next token, salt, now, grace in ms, idle and longest in
/// s. Answers what became of it, and the user, the credentials, the salt.
static ROTATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local s = redis.call('HMGET', KEYS[1], 'family', 'current', 'previous', 'salt', 'rotated', 'user', 'credential', 'coming',
  'created', 'used')
if not s[1] or s[1] ~= ARGV[1] then return {'GONE', '', '', '', ''} end
local now, idle, longest = tonumber(ARGV[5]), tonumber(ARGV[7]), tonumber(ARGV[8])
local left = math.min(tonumber(s[9]) + longest * 1000, now + idle * 1000) - now
if left <= 0 or now > tonumber(s[10]) + idle * 1000 then
  redis.call('DEL', KEYS[1])
  return {'GONE', '', '', '', ''}
end
if s[2] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'current', ARGV[3], 'previous', ARGV[2], 'salt', ARGV[4], 'rotated', now, 'used', now)
  redis.call('PEXPIRE', KEYS[1], left)
  return {'DONE', s[6], s[7], s[8], ARGV[4]}
end
if s[3] == ARGV[2] and now - tonumber(s[5]) <= tonumber(ARGV[6]) then
  return {'DONE', s[6], s[7], s[8], s[4]}
end
redis.call('DEL', KEYS[1])
return {'REUSED', s[6], '', '', ''}
",
    )
});

/// Ends a session. KEYS: the session, the sessions of a user. ARGV: id, user. 1 if that user had it.
static END: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('HGET', KEYS[1], 'user') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
",
    )
});

/// Ends all sessions of a user but one. KEYS: the sessions of the user. ARGV: the one to keep, what keys of sessions begin with.
/// Answers the ids of those that ended.
static END_ALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local ended = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if id ~= ARGV[1] then
    redis.call('DEL', ARGV[2] .. id)
    redis.call('ZREM', KEYS[1], id)
    ended[#ended + 1] = id
  end
end
return ended
",
    )
});

/// The sessions of a user, newest first; ids of those that have run out are dropped. KEYS: the sessions of the user. ARGV: what keys of
/// sessions begin with.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1, 'REV')) do
  local s = redis.call('HMGET', ARGV[1] .. id, 'created', 'used', 'agent')
  if s[1] then
    found[#found + 1] = {id, s[1], s[2], s[3]}
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return found
",
    )
});

/// Notes which credential a session goes on with. KEYS: the session. ARGV: `coming` or `credential`, which. A session that is gone
/// stays gone.
static CREDENTIAL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
",
    )
});

/// A session, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Which.
    pub id: SessionId,
    /// When it began.
    pub created: DateTime<Utc>,
    /// When its access token was last renewed.
    pub used: DateTime<Utc>,
    /// What the client called itself.
    pub agent: Option<String>,
}

/// A token was replaced.
#[derive(Debug)]
pub(super) struct Rotated {
    pub(super) next: RefreshToken,
    pub(super) user_id: UserId,
    /// What the password may be.
    pub(super) credentials: [String; 2],
}

/// What became of renewing a session.
#[derive(Debug)]
pub(super) enum Rotation {
    Done(Rotated),
    /// There is no such session (any more).
    Gone,
    /// The token had been replaced before: the session has been ended.
    Reused,
}

/// The sessions of the shop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions {
    redis: Redis,
    terms: SessionTerms,
    prefix: Arc<str>,
}

impl Sessions {
    /// In this Redis.
    #[must_use]
    pub fn new(redis: Redis, terms: SessionTerms) -> Self {
        let prefix = redis.key("session:").into();
        Self { redis, terms, prefix }
    }

    /// How long they live.
    #[must_use]
    pub fn terms(&self) -> SessionTerms {
        self.terms
    }

    fn of(&self, user_id: UserId) -> String {
        self.redis.key(&format!("sessions:{user_id}"))
    }

    fn one(&self, id: SessionId) -> String {
        format!("{}{id}", self.prefix)
    }

    /// Begins a session; its token, and which sessions made room for it.
    pub(super) async fn start(
        &self,
        id: SessionId,
        user_id: UserId,
        credential: &str,
        agent: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(RefreshToken, Vec<SessionId>), Unavailable> {
        let token = RefreshToken::first(id)?;
        let ended: Vec<String> = self
            .redis
            .run(
                START
                    .key(self.one(id))
                    .key(self.of(user_id))
                    .arg(id.to_string())
                    .arg(user_id.to_string())
                    .arg(token.family_hash())
                    .arg(token.secret_hash())
                    .arg(credential)
                    .arg(agent.map(shortened).unwrap_or_default())
                    .arg(now.timestamp_millis())
                    .arg(self.terms.idle.as_secs())
                    .arg(self.terms.longest.as_secs())
                    .arg(MOST)
                    .arg(&*self.prefix),
            )
            .await?;
        Ok((token, parsed(&ended)))
    }

    /// Replaces a token by the next one.
    pub(super) async fn rotate(
        &self,
        token: &RefreshToken,
        now: DateTime<Utc>,
    ) -> Result<Rotation, Unavailable> {
        let salt = super::secret::hash(&random::<32>()?);
        let (outcome, user, credential, coming, salt): (String, String, String, String, String) = self
            .redis
            .run(
                ROTATE
                    .key(self.one(token.session))
                    .arg(token.family_hash())
                    .arg(token.secret_hash())
                    .arg(token.next(salt.as_bytes()).secret_hash())
                    .arg(salt)
                    .arg(now.timestamp_millis())
                    .arg(u64::try_from(self.terms.grace.as_millis()).unwrap_or(u64::MAX))
                    .arg(self.terms.idle.as_secs())
                    .arg(self.terms.longest.as_secs()),
            )
            .await?;
        Ok(match (outcome.as_str(), user.parse()) {
            ("DONE", Ok(user_id)) => Rotation::Done(Rotated {
                next: token.next(salt.as_bytes()),
                user_id,
                credentials: [credential, coming],
            }),
            ("REUSED", _) => Rotation::Reused,
            _ => Rotation::Gone,
        })
    }

    /// Ends a session of this user; false if they have none of that id.
    pub(super) async fn end(&self, user_id: UserId, id: SessionId) -> Result<bool, Unavailable> {
        let ended: u8 = self
            .redis
            .run(
                END.key(self.one(id))
                    .key(self.of(user_id))
                    .arg(id.to_string())
                    .arg(user_id.to_string()),
            )
            .await?;
        Ok(ended == 1)
    }

    /// Ends all sessions of this user but one; which.
    pub(super) async fn end_all(
        &self,
        user_id: UserId,
        keep: Option<SessionId>,
    ) -> Result<Vec<SessionId>, Unavailable> {
        let keep = keep.map(|id| id.to_string()).unwrap_or_default();
        let ended: Vec<String> = self
            .redis
            .run(END_ALL.key(self.of(user_id)).arg(keep).arg(&*self.prefix))
            .await?;
        Ok(parsed(&ended))
    }

    /// The sessions of this user, newest first.
    pub(super) async fn list(&self, user_id: UserId) -> Result<Vec<SessionRecord>, Unavailable> {
        let found: Vec<(String, i64, i64, String)> = self
            .redis
            .run(LIST.key(self.of(user_id)).arg(&*self.prefix))
            .await?;
        let record = |(id, created, used, agent): (String, i64, i64, String)| {
            Some(SessionRecord {
                id: id.parse().ok()?,
                created: DateTime::from_timestamp_millis(created)?,
                used: DateTime::from_timestamp_millis(used)?,
                agent: Some(agent).filter(|agent| !agent.is_empty()),
            })
        };
        Ok(found.into_iter().filter_map(record).collect())
    }

    /// A password is about to be set, by this session: it goes on with it if it was.
    pub(super) async fn expect(&self, id: SessionId, credential: &str) -> Result<(), Unavailable> {
        self.note(id, "coming", credential).await
    }

    /// The password was set.
    pub(super) async fn settle(&self, id: SessionId, credential: &str) -> Result<(), Unavailable> {
        self.note(id, "credential", credential).await
    }

    async fn note(&self, id: SessionId, field: &str, credential: &str) -> Result<(), Unavailable> {
        let _: u8 = self
            .redis
            .run(CREDENTIAL.key(self.one(id)).arg(field).arg(credential))
            .await?;
        Ok(())
    }
}

fn parsed(ids: &[String]) -> Vec<SessionId> {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

/// What a client calls itself, on one line and not for ever.
fn shortened(agent: &str) -> String {
    agent
        .chars()
        .filter(|character| !character.is_control())
        .take(LONGEST_AGENT)
        .collect()
}
