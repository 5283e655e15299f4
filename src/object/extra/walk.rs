//! A listing in order and in pages, of services that list one folder at a time, in no order.
//!
//! Owns the order, by bytes of the whole name, which folders are asked for, and how much of one is held:
//! of a folder with more names the least, and it is asked for again when those are used up. Does not ask;
//! [`Walk::next`] tells what to ask for. A walk that goes on from page to page asks for each folder once.

use std::collections::BTreeMap;

use super::super::ObjectInfo;
use crate::limits::FOLDER_NAMES_MAX;

/// The least names of a folder that are wanted; those of folders end with a slash.
pub(super) struct Names {
    pub folder: String,
    prefix: String,
    start_after: String,
    /// The last one that was taken before.
    taken: String,
    kept: BTreeMap<String, Option<ObjectInfo>>,
    /// Others were left out.
    cut: bool,
}

impl Names {
    fn new(folder: String, prefix: &str, start_after: &str) -> Self {
        Self {
            folder,
            prefix: prefix.to_owned(),
            start_after: start_after.to_owned(),
            taken: String::new(),
            kept: BTreeMap::new(),
            cut: true,
        }
    }

    /// All of the folder is told anew.
    fn begin(&mut self) {
        self.cut = false;
    }

    /// One name of the folder, and what it is; nothing for a folder.
    pub fn add(&mut self, name: &str, blob: Option<ObjectInfo>) {
        // Some services list a folder in itself, and the root as `/`.
        if name == "/" || name.len() <= self.folder.len() || !self.is_wanted(name, blob.is_none()) {
            return;
        }
        self.kept.insert(name.to_owned(), blob);
        if self.kept.len() > FOLDER_NAMES_MAX {
            self.kept.pop_last();
            self.cut = true;
        }
    }

    fn is_wanted(&self, name: &str, is_folder: bool) -> bool {
        let after = name > &*self.start_after || is_folder && self.start_after.starts_with(name);
        let below = name.starts_with(&self.prefix) || is_folder && self.prefix.starts_with(name);
        after && below && name.starts_with(&self.folder) && name > &*self.taken
    }
}

/// What a walk comes to next.
pub(super) enum Step {
    /// An object.
    Found(ObjectInfo),
    /// All names of this folder are to be added, and brought back.
    Ask(Names),
    /// There are no more.
    Done,
}

/// A listing under way.
pub(super) struct Walk {
    prefix: String,
    start_after: String,
    /// The last object that was found; at first where the listing begins.
    at: String,
    /// The folders on the way, the deepest last.
    levels: Vec<Names>,
}

impl Walk {
    /// All objects whose names start with `prefix`, after `start_after`.
    pub fn new(prefix: &str, start_after: &str) -> Self {
        // The deepest folder that holds all of the prefix.
        let top = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        let levels = vec![Names::new(top.to_owned(), prefix, start_after)];
        let [prefix, start_after] = [prefix, start_after].map(str::to_owned);
        Self { prefix, at: start_after.clone(), start_after, levels }
    }

    /// Whether the next page of this listing is asked for.
    pub fn goes_on(&self, prefix: &str, start_after: &str) -> bool {
        self.prefix == prefix && self.at == start_after
    }

    /// The next step. What was asked for is brought back before the one after it.
    pub fn next(&mut self) -> Step {
        while let Some(mut names) = self.levels.pop() {
            let Some((name, blob)) = names.kept.pop_first() else {
                if names.cut {
                    names.begin();
                    return Step::Ask(names);
                }
                continue;
            };
            names.taken.clone_from(&name);
            self.levels.push(names);
            match blob {
                Some(blob) => {
                    self.at = name;
                    return Step::Found(blob);
                }
                None => self.levels.push(Names::new(name, &self.prefix, &self.start_after)),
            }
        }
        Step::Done
    }

    /// A folder that was asked for, with its names.
    pub fn bring(&mut self, names: Names) {
        self.levels.push(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(key: &str) -> ObjectInfo {
        ObjectInfo { key: key.to_owned(), len_bytes: 1, mtime: 1 }
    }

    /// A page of a listing of these objects, and which folders it asked for.
    fn page(walk: &mut Walk, objects: &[String], limit: usize) -> (Vec<String>, Vec<String>) {
        let (mut found, mut asked) = (Vec::new(), Vec::new());
        while found.len() < limit {
            match walk.next() {
                Step::Found(blob) => found.push(blob.key),
                Step::Ask(mut names) => {
                    let folder = names.folder.clone();
                    names.add(&folder, None);
                    // In no order.
                    for key in objects.iter().rev() {
                        let Some(rest) = key.strip_prefix(&folder) else { continue };
                        match rest.split_once('/') {
                            Some((name, _)) => names.add(&format!("{folder}{name}/"), None),
                            None => names.add(key, Some(blob(key))),
                        }
                    }
                    assert!(names.kept.len() <= FOLDER_NAMES_MAX);
                    asked.push(folder);
                    walk.bring(names);
                }
                Step::Done => break,
            }
        }
        (found, asked)
    }

    #[test]
    fn pages_are_what_sorting_all_names_gives() {
        let parts = ["a", "b-c", "b/1", "b/2/x", "b/2/y", "b/20", "b0", "c/d/e/f", "c/d-"];
        let objects = parts.map(str::to_owned);
        let mut sorted = objects.clone();
        sorted.sort();
        for prefix in ["", "b", "b/", "b/2", "b/2/", "c/d/", "x", "x/y/"] {
            for after in ["", "a", "b", "b/", "b/2", "b/2/", "b/2/x", "c/d/e/f", "d"] {
                for limit in 1..=objects.len() + 1 {
                    let (found, _) = page(&mut Walk::new(prefix, after), &objects, limit);
                    let wanted = sorted.iter().filter(|key| key.starts_with(prefix));
                    let wanted: Vec<_> =
                        wanted.filter(|key| ***key > *after).take(limit).cloned().collect();
                    assert_eq!(found, wanted, "{prefix:?} after {after:?}, {limit}");
                }
            }
        }
    }

    fn blocks() -> Vec<String> {
        let name = |id: u64| format!("chunks/{}/{}/{id}_0_9", id / 1_000_000, id / 1000);
        (1..4000).chain(1_000_000..1_002_000).map(name).collect()
    }

    #[test]
    fn one_listing_asks_for_each_folder_once() {
        let objects = blocks();
        let (mut walk, mut all, mut asked, mut after) =
            (Walk::new("chunks/", ""), Vec::new(), Vec::new(), String::new());
        loop {
            assert!(walk.goes_on("chunks/", &after) && !walk.goes_on("chunks/", "other"));
            let (found, folders) = page(&mut walk, &objects, 700);
            asked.extend(folders);
            let Some(last) = found.last() else { break };
            after.clone_from(last);
            all.extend(found);
        }
        let folders = asked.len();
        asked.sort();
        asked.dedup();
        assert_eq!((folders, asked.len()), (9, 9));
        let mut sorted = objects;
        sorted.sort();
        assert_eq!(all, sorted);
    }

    #[test]
    fn a_listing_that_begins_anew_leaves_out_folders_before_it() {
        let objects = blocks();
        let (found, asked) =
            page(&mut Walk::new("chunks/", "chunks/1/1000/1000999_0_9"), &objects, 10);
        assert_eq!(found[0], "chunks/1/1001/1001000_0_9");
        let way = ["chunks/", "chunks/1/", "chunks/1/1000/", "chunks/1/1001/"];
        assert_eq!(asked, way);
    }

    #[test]
    fn of_a_wide_folder_a_part_is_held() {
        let objects: Vec<_> =
            (0..2 * FOLDER_NAMES_MAX + 5).map(|number| format!("f/{number:07}")).collect();
        let mut walk = Walk::new("f/", "");
        let (found, asked) = page(&mut walk, &objects, usize::MAX);
        assert_eq!(found, objects);
        assert_eq!(asked.len(), 3);
    }
}
