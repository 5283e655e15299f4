//! What of the volume's setting is obeyed anew while it is mounted.
//!
//! Owns which keys these are: the limits of the volume, whose quotas hold, the days of its trash, rates
//! of bytes, where objects are and by which keys; and what a mount does that may not go on as it began: on
//! another volume it ends at once, and where a change would be written as this client cannot, or its bytes
//! where others do not look for them, it takes none any more. All other keys are those of the mount's beginning.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::about;
use super::hourly::Obstacle;
use crate::config::{Refusal, Setting};
use crate::daemon::process;
use crate::daemon::store::Stores;
use crate::daemon::volume::rules_of;
use crate::meta::{Meta, MetaError};
use crate::stdx::Chance;
use crate::uring;

/// The pace of a mount that has no heartbeat, as with the real client.
const PACE: Duration = Duration::from_secs(12);

/// A mount as it began.
pub struct Mounted {
    /// Identity of the volume.
    pub uuid: String,
    /// Whether it takes changes.
    pub read_only: bool,
    /// Whose place and rates follow the setting.
    pub stores: Stores,
    /// What was told last of a setting that it cannot follow.
    told: RefCell<String>,
}

impl Mounted {
    /// A mount of the volume of this identity.
    pub fn new(uuid: &str, read_only: bool, stores: Stores) -> Self {
        Self { uuid: uuid.to_owned(), read_only, stores, told: RefCell::default() }
    }

    /// Tell what is new, once.
    fn tell(&self, text: String) {
        let before = self.told.replace(text.clone());
        if !text.is_empty() && before != text {
            tracing::error!("{text}");
        }
    }
}

/// Look at the setting, and at the quotas, with each heartbeat, forever.
pub async fn follow(meta: Rc<Meta>, mounted: Mounted, heartbeat: Option<Duration>) {
    let pace = heartbeat.filter(|pace| !pace.is_zero()).unwrap_or(PACE);
    let mut chance = Chance::from_system();
    loop {
        uring::sleep(about(pace, &mut chance)).await;
        match look(&meta, &mounted).await {
            Ok(()) => {}
            Err(Obstacle::Gone(text)) => process::give_up(&text),
            Err(error) => tracing::warn!(%error, "what the setting says now is not obeyed"),
        }
        // Whose quotas hold is the setting's word.
        if let Err(error) = meta.load_quotas().await {
            tracing::warn!(%error, "quotas that others set are not seen this time");
        }
    }
}

/// Read the setting, obey it, and judge whether the mount may go on.
pub(super) async fn look(meta: &Meta, mounted: &Mounted) -> Result<(), Obstacle> {
    let Some(text) = meta.engine().load_setting().await.map_err(MetaError::from)? else {
        return Err(Obstacle::Gone("the metadata engine holds no volume any more".into()));
    };
    let setting = parsed(&text)?;
    if setting.uuid() != mounted.uuid {
        return Err(Obstacle::Gone(format!(
            "the metadata engine holds another volume now: UUID {} in place of {}",
            setting.uuid(),
            mounted.uuid
        )));
    }
    let moved = mounted.stores.follow(&setting);
    if let Ok(true) = moved {
        let place = mounted.stores.store().describe();
        tracing::info!(place, "the setting was changed: objects are asked for there from now on");
    }
    match (setting.check(mounted.read_only), moved) {
        (Ok(()), Ok(_)) => {
            mounted.tell(String::new());
            if meta.set_held(false) {
                tracing::info!(
                    "what kept the mount from taking changes is gone: it takes them again"
                );
            }
        }
        (Err(refusal @ Refusal::MetaVersion(_)), _) => {
            return Err(Obstacle::Gone(refusal.to_string()));
        }
        (Err(refusal @ Refusal::OnlyReadable(_)), _) => hold(meta, mounted, &refusal.to_string()),
        (_, Err(failure)) => {
            hold(meta, mounted, &format!("its objects are elsewhere: {}", failure.text));
        }
        // Who is mounted stays, as with the real client; who comes anew is refused.
        (Err(refusal), _) => mounted.tell(format!("the setting was changed: {refusal}")),
    }
    apply(meta, &setting);
    mounted.stores.obey_rates(setting.rates_mbps());
    Ok(())
}

/// Take no more changes, and tell why.
fn hold(meta: &Meta, mounted: &Mounted, why: &str) {
    meta.set_held(true);
    mounted.tell(format!(
        "the setting was changed: {why}; until then changes end with EROFS, and only what was written \
         before is still stored"
    ));
}

/// Read the setting and obey its limits, quotas and days; it may have been changed since.
///
/// # Errors
/// Also where it is one that this client may not write with.
pub(super) async fn obey(meta: &Meta) -> Result<Setting, Obstacle> {
    let stored = meta.engine().load_setting().await.map_err(MetaError::from)?;
    let setting = parsed(&stored.unwrap_or_default())?;
    apply(meta, &setting);
    setting.check(false).map_err(|refusal| Obstacle::Setting(refusal.to_string()))?;
    Ok(setting)
}

fn parsed(text: &str) -> Result<Setting, Obstacle> {
    Setting::parse(text).map_err(|refusal| Obstacle::Setting(refusal.to_string()))
}

fn apply(meta: &Meta, setting: &Setting) {
    meta.set_trash_days(setting.trash_days());
    meta.set_limits(&rules_of(setting));
}
