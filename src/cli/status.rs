//! `jfs-uring status`: a volume as `juicefs status` shows it; paths are `levels`' to show.

use std::path::Path;

use serde_json::{Value, json};

use super::args::StatusArgs;
use super::{levels, say_json};
use crate::config::MetaUrl;
use crate::daemon::{Failure, Volume};
use crate::meta::Session;
use crate::stdx::calendar::rfc3339;
use crate::types::Time;

pub fn run(asked: &StatusArgs) -> Result<(), Failure> {
    let path = Path::new(&asked.target);
    if !asked.target.contains("://") && path.exists() {
        return levels::status(path, asked.json);
    }
    let volume = Volume::open(MetaUrl::parse(&asked.target)?)?;
    let (sessions, statistic) = volume.look()?;
    say_json(&json!({
        "Setting": volume.setting.without_secrets(),
        "Sessions": sessions.iter().map(session).collect::<Vec<_>>(),
        "Statistic": {
            "UsedSpace": statistic.used_bytes,
            "AvailableSpace": statistic.available_bytes,
            "UsedInodes": statistic.used_inodes,
            "AvailableInodes": statistic.available_inodes,
        },
    }))
}

fn session(session: &Session) -> Value {
    let mut shown = json!({
        "Sid": session.sid,
        "Expire": rfc3339(Time { sec: session.expire, nsec: 0 }),
    });
    let info = serde_json::from_str(&session.info).unwrap_or(Value::Null);
    if let (Value::Object(shown), Value::Object(info)) = (&mut shown, info) {
        shown.extend(info);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_have_the_real_clients_fields() {
        let info = r#"{"Version":"1.4.1","HostName":"h"}"#.to_owned();
        let shown = session(&Session { sid: 3, expire: 0, info });
        assert_eq!((&shown["Sid"], &shown["HostName"]), (&3.into(), &"h".into()));
        assert!(shown["Expire"].as_str().unwrap().starts_with("1970-01-01T00:00:00"));
    }
}
