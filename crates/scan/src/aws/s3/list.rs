//! Which objects to look at, in the order of their keys, without ever holding a list of all.

use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::mpsc;

use super::address::S3Address;
use super::bucket::{Ask, Bucket, Listed, Page};
use super::layout::{END, Leaf, Level, is_behind};
use crate::aws::Stop;
use crate::aws::commit::Mark;
use crate::aws::failure::Failure;
use crate::names::FileKind;
use crate::{ScanOptions, Scanned};

/// Listings that are under way at once; each is a page of a thousand keys.
const LISTINGS_AHEAD_MAX: usize = 8;
/// Folders above `AWSLogs/`, or without such a layout, that are listed level by level. What lies
/// deeper or beside is listed flat.
const LEVELS_LISTED_MAX: u32 = 100;
/// Parts of a listing that wait to be worked on.
const ITEMS_AHEAD_MAX: usize = 64;

/// What the listing comes to.
#[derive(Debug)]
pub(in crate::aws) enum Step {
    /// An object to read.
    Object { bucket: Arc<Bucket>, listed: Listed, named: bool, mark: Mark, before: Scanned },
    /// Something that cannot be listed.
    Bad { path: String, failure: Failure, mark: Mark, before: Scanned },
}

/// What is left to say when the listing ends.
#[derive(Debug, Default)]
pub(in crate::aws) struct Tail {
    /// What was passed over after the last object.
    pub(in crate::aws) counts: Scanned,
    /// Nothing is left to be listed.
    pub(in crate::aws) is_whole: bool,
}

/// A part of a listing.
#[derive(Debug)]
enum Item {
    Object {
        listed: Listed,
        named: bool,
    },
    Leaf(Leaf),
    /// An account's folder of log files.
    Trail(String),
    Bad {
        prefix: String,
        failure: Failure,
    },
}

/// Lists inputs one after the other.
pub(in crate::aws) struct Lister {
    pub(in crate::aws) options: Arc<ScanOptions>,
    pub(in crate::aws) inputs: Vec<(Arc<Bucket>, S3Address)>,
    /// Everything up to here was done before.
    pub(in crate::aws) mark: Option<Mark>,
    pub(in crate::aws) stop: Stop,
}

impl Lister {
    /// Hands on what is there, in order, until there is no more or nobody wants it.
    pub(in crate::aws) async fn run(self, steps: mpsc::Sender<Step>) -> Tail {
        let mut counts = Scanned::default();
        for (index, (bucket, address)) in self.inputs.iter().enumerate() {
            let behind = match &self.mark {
                Some(mark) if mark.input > index => continue,
                Some(mark) if mark.input == index => Some(mark.key.clone()),
                _ => None,
            };
            let one = One {
                bucket,
                index,
                behind: behind.as_deref(),
                options: &self.options,
                stop: &self.stop,
            };
            if !one.run(address, &steps, &mut counts).await {
                return Tail { counts, is_whole: false };
            }
        }
        Tail { counts, is_whole: true }
    }
}

/// The listing of one input.
struct One<'l> {
    bucket: &'l Arc<Bucket>,
    index: usize,
    behind: Option<&'l str>,
    options: &'l ScanOptions,
    stop: &'l Stop,
}

impl One<'_> {
    /// False when it was ended before its end.
    async fn run(
        &self,
        address: &S3Address,
        steps: &mpsc::Sender<Step>,
        counts: &mut Scanned,
    ) -> bool {
        let (sender, mut receiver) = mpsc::channel(ITEMS_AHEAD_MAX);
        let plan = async move { self.plan(address, &sender).await };
        let items = stream::poll_fn(move |context| receiver.poll_recv(context));
        let expanded = items
            .map(|item| self.expand(item).boxed())
            .buffered(LISTINGS_AHEAD_MAX)
            .flat_map(stream::iter)
            .map(|item| self.first_page(item).boxed())
            .buffered(LISTINGS_AHEAD_MAX);
        let hand_on = async {
            let mut pages = std::pin::pin!(expanded);
            while let Some((item, page)) = pages.next().await {
                if !self.hand_on(item, page, steps, counts).await {
                    return false;
                }
            }
            true
        };
        // Whoever ends early drops the receiver, and the plan ends with it.
        let mut plan = std::pin::pin!(plan);
        let mut hand_on = std::pin::pin!(hand_on);
        tokio::select! {
            is_whole = &mut hand_on => is_whole,
            () = &mut plan => hand_on.await,
        }
    }

    async fn plan(&self, address: &S3Address, items: &mpsc::Sender<Item>) {
        let prefix = address.prefix.as_str();
        let first = match self.first_key(prefix).await {
            Ok(first) => first,
            Err(failure) => {
                let _ = items.send(Item::Bad { prefix: prefix.to_owned(), failure }).await;
                return;
            }
        };
        let nothing = Failure::Refused("no object is there".to_owned());
        let mut levels_left = LEVELS_LISTED_MAX;
        if address.any_ending || prefix.is_empty() || prefix.ends_with('/') {
            let item = match first {
                None => Item::Bad { prefix: prefix.to_owned(), failure: nothing },
                Some(_) if address.any_ending => Item::Leaf(Leaf::whole(prefix)),
                Some(_) => return self.walk(prefix.to_owned(), items, &mut levels_left).await,
            };
            let _ = self.offer(item, items).await;
            return;
        }
        // An object, a folder, or both.
        let folder = format!("{prefix}/");
        let object = first.filter(|listed| listed.key == prefix);
        let is_object = object.is_some();
        if let Some(listed) = object
            && !self.offer(Item::Object { listed, named: true }, items).await
        {
            return;
        }
        match self.first_key(&folder).await {
            Ok(Some(_)) => self.walk(folder, items, &mut levels_left).await,
            Ok(None) if is_object => {}
            Ok(None) => {
                let _ = items.send(Item::Bad { prefix: folder, failure: nothing }).await;
            }
            Err(failure) => {
                let _ = items.send(Item::Bad { prefix: folder, failure }).await;
            }
        }
    }

    async fn first_key(&self, prefix: &str) -> Result<Option<Listed>, Failure> {
        let ask = Ask { prefix, keys_max: Some(1), ..Ask::default() };
        Ok(self.bucket.list(ask).await?.objects.into_iter().next())
    }

    /// Goes down the layout.
    async fn walk(&self, prefix: String, items: &mpsc::Sender<Item>, levels_left: &mut u32) {
        // Depth first, in the order of keys: what comes next is at the end.
        let mut left = vec![Item::Trail(prefix)];
        while let Some(item) = left.pop() {
            let prefix = match item {
                Item::Trail(prefix) => prefix,
                other => {
                    if !self.offer(other, items).await {
                        return;
                    }
                    continue;
                }
            };
            if self.behind.is_some_and(|behind| is_behind(&prefix, behind)) {
                continue;
            }
            let next = match Level::of(&prefix) {
                Level::Above if *levels_left == 0 => Item::Leaf(Leaf::whole(prefix)),
                Level::Above => {
                    *levels_left -= 1;
                    let mut below = self.level(&prefix).await;
                    below.reverse();
                    left.extend(below);
                    continue;
                }
                Level::Accounts => {
                    let mut below = self.level(&prefix).await;
                    below.retain(|item| match item {
                        Item::Trail(folder) => match Level::of(folder) {
                            Level::Account(account) => self.allows_account(&account),
                            _ => true,
                        },
                        _ => true,
                    });
                    below.reverse();
                    left.extend(below);
                    continue;
                }
                // Beside it are digests, Insights, and the logs of other services.
                Level::Account(account) if self.allows_account(&account) => {
                    Item::Trail(format!("{prefix}CloudTrail/"))
                }
                Level::Account(_) => continue,
                Level::Trail => Item::Trail(prefix),
                Level::Region { folder, region } => {
                    if !self.allows_region(&region) {
                        continue;
                    }
                    Item::Leaf(Leaf::in_region(&prefix, &folder, self.options))
                }
                Level::Other => Item::Leaf(Leaf::whole(prefix)),
            };
            if !self.offer(next, items).await {
                return;
            }
        }
    }

    /// Objects and folders of one level, in the order of keys; folders as [`Item::Trail`].
    async fn level(&self, prefix: &str) -> Vec<Item> {
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            let ask = Ask { prefix, token: token.as_deref(), level: true, ..Ask::default() };
            match self.bucket.list(ask).await {
                Ok(page) => {
                    let object = |listed: Listed| Item::Object { listed, named: false };
                    all.extend(page.objects.into_iter().map(object));
                    all.extend(page.folders.into_iter().map(Item::Trail));
                    token = page.next;
                }
                // A level that is not known whole is not gone down at all: it is one gap.
                Err(failure) => return vec![Item::Bad { prefix: prefix.to_owned(), failure }],
            }
            if token.is_none() || self.stop.is_asked() {
                break;
            }
        }
        all.sort_by(|a, b| place(a).cmp(place(b)));
        all
    }

    /// Hands a part on, if anything of it is left to do. False when nobody wants more.
    async fn offer(&self, item: Item, items: &mpsc::Sender<Item>) -> bool {
        let left = match (item, self.behind) {
            (Item::Leaf(leaf), Some(behind)) => leaf.from(behind).map(Item::Leaf),
            (Item::Object { listed, .. }, Some(behind)) if listed.key.as_str() <= behind => None,
            (item, _) => Some(item),
        };
        match left {
            Some(item) => !self.stop.is_asked() && items.send(item).await.is_ok(),
            None => true,
        }
    }

    fn allows_account(&self, account: &str) -> bool {
        let accounts = &self.options.accounts;
        accounts.is_empty() || accounts.contains(account)
    }

    fn allows_region(&self, region: &str) -> bool {
        let regions = &self.options.regions;
        regions.is_empty() || regions.contains(region)
    }

    /// An account's folder becomes what the filters leave of its regions.
    async fn expand(&self, item: Item) -> Vec<Item> {
        let Item::Trail(prefix) = item else { return vec![item] };
        let options = self.options;
        let in_region = |folder: &str| Item::Leaf(Leaf::in_region(folder, folder, options));
        let all = if !options.regions.is_empty() {
            let folder = |region: &String| in_region(&format!("{prefix}{region}/"));
            options.regions.iter().map(folder).collect()
        } else if options.since.is_none() && options.until.is_none() {
            vec![Item::Leaf(Leaf::whole(prefix))]
        } else {
            let region = |item: Item| match item {
                Item::Trail(folder) => in_region(&folder),
                other => other,
            };
            self.level(&prefix).await.into_iter().map(region).collect()
        };
        let Some(behind) = self.behind else { return all };
        let left = |item: Item| match item {
            Item::Leaf(leaf) => leaf.from(behind).map(Item::Leaf),
            Item::Object { ref listed, .. } if listed.key.as_str() <= behind => None,
            other => Some(other),
        };
        all.into_iter().filter_map(left).collect()
    }

    async fn first_page(&self, item: Item) -> (Item, Option<Result<Page, Failure>>) {
        let Item::Leaf(leaf) = &item else { return (item, None) };
        if self.stop.is_asked() {
            return (item, None);
        }
        let page = self.page(leaf, None).await;
        (item, Some(page))
    }

    async fn page(&self, leaf: &Leaf, token: Option<&str>) -> Result<Page, Failure> {
        let after = leaf.after.as_deref();
        self.bucket.list(Ask { prefix: &leaf.prefix, after, token, ..Ask::default() }).await
    }

    /// The objects of a part, page after page. False when nobody wants more.
    async fn hand_on(
        &self,
        item: Item,
        page: Option<Result<Page, Failure>>,
        steps: &mpsc::Sender<Step>,
        counts: &mut Scanned,
    ) -> bool {
        let leaf = match item {
            Item::Object { listed, named } => {
                return self.hand_on_object(listed, named, steps, counts).await;
            }
            Item::Bad { prefix, failure } => {
                return self.hand_on_bad(prefix, failure, steps, counts).await;
            }
            Item::Trail(_) => return true,
            Item::Leaf(leaf) => leaf,
        };
        let Some(mut page) = page else { return false };
        loop {
            let listed = match page {
                Ok(listed) => listed,
                Err(failure) => {
                    return self.hand_on_bad(leaf.prefix, failure, steps, counts).await;
                }
            };
            for object in listed.objects {
                if leaf.before.as_ref().is_some_and(|before| object.key >= *before) {
                    return true;
                }
                if !self.hand_on_object(object, false, steps, counts).await {
                    return false;
                }
            }
            let Some(token) = listed.next else { return true };
            if self.stop.is_asked() {
                return false;
            }
            page = self.page(&leaf, Some(&token)).await;
        }
    }

    async fn hand_on_object(
        &self,
        listed: Listed,
        named: bool,
        steps: &mpsc::Sender<Step>,
        counts: &mut Scanned,
    ) -> bool {
        let name = listed.key.rsplit('/').next().unwrap_or_default();
        let summary = &mut counts.summary;
        match FileKind::of(name) {
            // What consoles make to show a folder.
            _ if name.is_empty() => return true,
            FileKind::Log(log) if self.options.rules_out(&log) => summary.files_filtered += 1,
            FileKind::NoRecords if !named => summary.files_passed_over += 1,
            _ => {
                let mark = Mark { input: self.index, key: listed.key.clone() };
                let before = std::mem::take(counts);
                let bucket = Arc::clone(self.bucket);
                let step = Step::Object { bucket, listed, named, mark, before };
                return !self.stop.is_asked() && steps.send(step).await.is_ok();
            }
        }
        self.bucket.usage.not_fetched.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        true
    }

    async fn hand_on_bad(
        &self,
        prefix: String,
        failure: Failure,
        steps: &mpsc::Sender<Step>,
        counts: &mut Scanned,
    ) -> bool {
        let path = format!("s3://{}/{prefix}", self.bucket.name);
        let mark = Mark { input: self.index, key: format!("{prefix}{END}") };
        let before = std::mem::take(counts);
        steps.send(Step::Bad { path, failure, mark, before }).await.is_ok()
    }
}

fn place(item: &Item) -> &str {
    match item {
        Item::Object { listed, .. } => &listed.key,
        Item::Leaf(leaf) => &leaf.prefix,
        Item::Trail(prefix) | Item::Bad { prefix, .. } => prefix,
    }
}
