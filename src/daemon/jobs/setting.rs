//! What of the volume's setting is obeyed anew while it is mounted.
//!
//! Owns which keys these are: the limits of the volume, whose quotas hold, and the days of its trash.
//! All others are those of the mount's beginning; of one that this client may not write with, the log
//! tells.

use super::hourly::Obstacle;
use crate::config::Setting;
use crate::daemon::volume::rules_of;
use crate::meta::{Meta, MetaError};

/// Read the setting and obey it; it may have been changed since.
pub(super) async fn obey(meta: &Meta) -> Result<Setting, Obstacle> {
    let stored = meta.engine().load_setting().await.map_err(MetaError::from)?;
    let setting = Setting::parse(&stored.unwrap_or_default());
    let setting = setting.map_err(|refusal| Obstacle::Setting(refusal.to_string()))?;
    meta.set_trash_days(setting.trash_days());
    meta.set_limits(&rules_of(&setting));
    setting.check(false).map_err(|refusal| Obstacle::Setting(refusal.to_string()))?;
    Ok(setting)
}
