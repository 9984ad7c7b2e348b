//! Which objects to fetch, in the order of their keys, without ever holding a list of all.

use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::mpsc;

use super::address::S3Address;
use super::bucket::{Bucket, ListRequest, ListedObject, Page};
use super::layout::{END, Leaf, Level, is_behind};
use crate::aws::failure::Failure;
use crate::aws::interrupt::Interrupt;
use crate::aws::mark::Mark;
use crate::names::FileKind;
use crate::options::ScanOptions;
use crate::summary::Summary;

/// Pages of a thousand keys that are requested at the same time.
const LISTINGS_AHEAD_MAX: usize = 8;
/// Folders above `AWSLogs/`, or without such a layout, that are listed level by level. Further ones
/// are listed flat, with all keys below them.
const LEVELS_LISTED_MAX: u32 = 100;
/// Parts of a listing that wait to be listed.
const PARTS_AHEAD_MAX: usize = 64;

/// One thing that the listing found. `before` counts the keys before it that were filtered out or
/// passed over.
#[derive(Debug)]
pub(crate) enum ListedItem {
    /// An object to read.
    Object { bucket: Arc<Bucket>, object: ListedObject, named: bool, mark: Mark, before: Summary },
    /// Something that cannot be listed.
    Bad { path: String, failure: Failure, mark: Mark, before: Summary },
}

/// How the listing ended.
#[derive(Debug, Default)]
pub(crate) struct ListingEnd {
    /// Counts of the keys after the last object.
    pub(crate) counts: Summary,
    /// Everything was listed.
    pub(crate) is_whole: bool,
}

/// A part of a listing.
#[derive(Debug)]
enum Part {
    Object {
        object: ListedObject,
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
pub(crate) struct Lister {
    pub(crate) options: Arc<ScanOptions>,
    pub(crate) inputs: Vec<(Arc<Bucket>, S3Address)>,
    /// Everything up to here was done before.
    pub(crate) mark: Option<Mark>,
    pub(crate) interrupt: Interrupt,
}

impl Lister {
    /// Sends the objects in order, until the end or until the receiver is gone.
    pub(crate) async fn run(self, found: mpsc::Sender<ListedItem>) -> ListingEnd {
        let mut counts = Summary::default();
        for (index, (bucket, address)) in self.inputs.iter().enumerate() {
            let behind = match &self.mark {
                Some(mark) if mark.input > index => continue,
                Some(mark) if mark.input == index => Some(mark.key.clone()),
                _ => None,
            };
            let input = InputLister {
                bucket,
                index,
                behind: behind.as_deref(),
                options: &self.options,
                interrupt: &self.interrupt,
            };
            if !input.run(address, &found, &mut counts).await {
                return ListingEnd { counts, is_whole: false };
            }
        }
        // An interrupt may have ended the plan of the last input early.
        ListingEnd { counts, is_whole: !self.interrupt.is_requested() }
    }
}

/// The listing of one input.
struct InputLister<'l> {
    bucket: &'l Arc<Bucket>,
    index: usize,
    behind: Option<&'l str>,
    options: &'l ScanOptions,
    interrupt: &'l Interrupt,
}

impl InputLister<'_> {
    /// False if it was ended before its end.
    async fn run(
        &self,
        address: &S3Address,
        found: &mpsc::Sender<ListedItem>,
        counts: &mut Summary,
    ) -> bool {
        let (sender, mut receiver) = mpsc::channel(PARTS_AHEAD_MAX);
        let plan = async move { self.plan(address, &sender).await };
        let parts = stream::poll_fn(move |context| receiver.poll_recv(context));
        let expanded = parts
            .map(|part| self.expand(part).boxed())
            .buffered(LISTINGS_AHEAD_MAX)
            .flat_map(stream::iter)
            .map(|part| self.first_page(part).boxed())
            .buffered(LISTINGS_AHEAD_MAX);
        let send_all = async {
            let mut pages = std::pin::pin!(expanded);
            while let Some((part, page)) = pages.next().await {
                if !self.send_part(part, page, found, counts).await {
                    return false;
                }
            }
            true
        };
        // If the sending ends early, its receiver is dropped, and the plan ends with it.
        let mut plan = std::pin::pin!(plan);
        let mut send_all = std::pin::pin!(send_all);
        tokio::select! {
            is_whole = &mut send_all => is_whole,
            () = &mut plan => send_all.await,
        }
    }

    async fn plan(&self, address: &S3Address, parts: &mpsc::Sender<Part>) {
        let prefix = address.prefix.as_str();
        let first = match self.first_key(prefix).await {
            Ok(first) => first,
            Err(failure) => {
                self.offer(Part::Bad { prefix: prefix.to_owned(), failure }, parts).await;
                return;
            }
        };
        let nothing = Failure::Refused("no object is there".to_owned());
        let mut levels_left = LEVELS_LISTED_MAX;
        if address.any_ending || prefix.is_empty() || prefix.ends_with('/') {
            let part = match first {
                None => Part::Bad { prefix: prefix.to_owned(), failure: nothing },
                Some(_) if address.any_ending => Part::Leaf(Leaf::whole(prefix)),
                Some(_) => return self.walk(prefix.to_owned(), parts, &mut levels_left).await,
            };
            self.offer(part, parts).await;
            return;
        }
        // An object, a folder, or both.
        let folder = format!("{prefix}/");
        let object = first.filter(|object| object.key == prefix);
        let is_object = object.is_some();
        if let Some(object) = object
            && !self.offer(Part::Object { object, named: true }, parts).await
        {
            return;
        }
        match self.first_key(&folder).await {
            Ok(Some(_)) => self.walk(folder, parts, &mut levels_left).await,
            Ok(None) if is_object => {}
            Ok(None) => {
                self.offer(Part::Bad { prefix: folder, failure: nothing }, parts).await;
            }
            Err(failure) => {
                self.offer(Part::Bad { prefix: folder, failure }, parts).await;
            }
        }
    }

    async fn first_key(&self, prefix: &str) -> Result<Option<ListedObject>, Failure> {
        let request = ListRequest { prefix, keys_max: Some(1), ..ListRequest::default() };
        Ok(self.bucket.list(request).await?.objects.into_iter().next())
    }

    /// Walks down the layout.
    async fn walk(&self, prefix: String, parts: &mpsc::Sender<Part>, levels_left: &mut u32) {
        // Depth first, in the order of keys: the next folder is at the end.
        let mut left = vec![Part::Trail(prefix)];
        while let Some(part) = left.pop() {
            let prefix = match part {
                Part::Trail(prefix) => prefix,
                other => {
                    if !self.offer(other, parts).await {
                        return;
                    }
                    continue;
                }
            };
            if self.behind.is_some_and(|behind| is_behind(&prefix, behind)) {
                continue;
            }
            let next = match Level::of(&prefix) {
                Level::Above if *levels_left == 0 => Part::Leaf(Leaf::whole(prefix)),
                Level::Above => {
                    *levels_left -= 1;
                    let mut below = self.level(&prefix).await;
                    below.reverse();
                    left.extend(below);
                    continue;
                }
                Level::Accounts => {
                    let mut below = self.level(&prefix).await;
                    below.retain(|part| match part {
                        Part::Trail(folder) => match Level::of(folder) {
                            Level::Account(account) => self.allows_account(&account),
                            _ => true,
                        },
                        _ => true,
                    });
                    below.reverse();
                    left.extend(below);
                    continue;
                }
                // Its other folders hold digests, Insights, and the logs of other services.
                Level::Account(account) if self.allows_account(&account) => {
                    Part::Trail(format!("{prefix}CloudTrail/"))
                }
                Level::Account(_) => continue,
                Level::Trail => Part::Trail(prefix),
                Level::Region { folder, region } => {
                    if !self.allows_region(&region) {
                        continue;
                    }
                    Part::Leaf(Leaf::in_region(&prefix, &folder, self.options))
                }
                Level::Other => Part::Leaf(Leaf::whole(prefix)),
            };
            if !self.offer(next, parts).await {
                return;
            }
        }
    }

    /// Objects and folders of one level, in the order of keys; folders as [`Part::Trail`].
    async fn level(&self, prefix: &str) -> Vec<Part> {
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            let request = ListRequest {
                prefix,
                token: token.as_deref(),
                level: true,
                ..ListRequest::default()
            };
            match self.bucket.list(request).await {
                Ok(page) => {
                    let object = |object| Part::Object { object, named: false };
                    all.extend(page.objects.into_iter().map(object));
                    all.extend(page.folders.into_iter().map(Part::Trail));
                    token = page.next;
                }
                // A level that is not completely known is not walked at all: it is one gap.
                Err(failure) => return vec![Part::Bad { prefix: prefix.to_owned(), failure }],
            }
            if token.is_none() || self.interrupt.is_requested() {
                break;
            }
        }
        all.sort_by(|a, b| place(a).cmp(place(b)));
        all
    }

    /// Sends a part, if anything of it is still to be listed. False if the receiver is gone.
    async fn offer(&self, part: Part, parts: &mpsc::Sender<Part>) -> bool {
        let left = match (part, self.behind) {
            (Part::Leaf(leaf), Some(behind)) => leaf.from(behind).map(Part::Leaf),
            (Part::Object { object, .. }, Some(behind)) if object.key.as_str() <= behind => None,
            (part, _) => Some(part),
        };
        match left {
            Some(part) => !self.interrupt.is_requested() && parts.send(part).await.is_ok(),
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
    async fn expand(&self, part: Part) -> Vec<Part> {
        let Part::Trail(prefix) = part else { return vec![part] };
        let options = self.options;
        let in_region = |folder: &str| Part::Leaf(Leaf::in_region(folder, folder, options));
        let all = if !options.regions.is_empty() {
            let folder = |region: &String| in_region(&format!("{prefix}{region}/"));
            options.regions.iter().map(folder).collect()
        } else if options.since.is_none() && options.until.is_none() {
            vec![Part::Leaf(Leaf::whole(prefix))]
        } else {
            let region = |part: Part| match part {
                Part::Trail(folder) => in_region(&folder),
                other => other,
            };
            self.level(&prefix).await.into_iter().map(region).collect()
        };
        let Some(behind) = self.behind else { return all };
        let left = |part: Part| match part {
            Part::Leaf(leaf) => leaf.from(behind).map(Part::Leaf),
            Part::Object { ref object, .. } if object.key.as_str() <= behind => None,
            other => Some(other),
        };
        all.into_iter().filter_map(left).collect()
    }

    async fn first_page(&self, part: Part) -> (Part, Option<Result<Page, Failure>>) {
        let Part::Leaf(leaf) = &part else { return (part, None) };
        if self.interrupt.is_requested() {
            return (part, None);
        }
        let page = self.page(leaf, None).await;
        (part, Some(page))
    }

    async fn page(&self, leaf: &Leaf, token: Option<&str>) -> Result<Page, Failure> {
        let after = leaf.after.as_deref();
        self.bucket
            .list(ListRequest { prefix: &leaf.prefix, after, token, ..ListRequest::default() })
            .await
    }

    /// Sends the objects of a part, page after page. False if the receiver is gone.
    async fn send_part(
        &self,
        part: Part,
        page: Option<Result<Page, Failure>>,
        found: &mpsc::Sender<ListedItem>,
        counts: &mut Summary,
    ) -> bool {
        let leaf = match part {
            Part::Object { object, named } => {
                return self.send_object(object, named, found, counts).await;
            }
            Part::Bad { prefix, failure } => {
                return self.send_bad(prefix, failure, found, counts).await;
            }
            Part::Trail(_) => return true,
            Part::Leaf(leaf) => leaf,
        };
        let Some(mut page) = page else { return false };
        loop {
            let listed = match page {
                Ok(listed) => listed,
                Err(failure) => {
                    return self.send_bad(leaf.prefix, failure, found, counts).await;
                }
            };
            for object in listed.objects {
                if leaf.before.as_ref().is_some_and(|before| object.key >= *before) {
                    return true;
                }
                if !self.send_object(object, false, found, counts).await {
                    return false;
                }
            }
            let Some(token) = listed.next else { return true };
            if self.interrupt.is_requested() {
                return false;
            }
            page = self.page(&leaf, Some(&token)).await;
        }
    }

    async fn send_object(
        &self,
        object: ListedObject,
        named: bool,
        found: &mpsc::Sender<ListedItem>,
        counts: &mut Summary,
    ) -> bool {
        let name = object.key.rsplit('/').next().unwrap_or_default();
        match FileKind::of(name) {
            // The AWS console creates such objects to show a folder.
            _ if name.is_empty() => return true,
            FileKind::Log(log) if self.options.rules_out(&log) => counts.filter_out(&log),
            FileKind::NoRecords if !named => counts.files_passed_over += 1,
            _ => {
                let mark = Mark { input: self.index, key: object.key.clone() };
                let before = std::mem::take(counts);
                let bucket = Arc::clone(self.bucket);
                let item = ListedItem::Object { bucket, object, named, mark, before };
                return !self.interrupt.is_requested() && found.send(item).await.is_ok();
            }
        }
        self.bucket.usage.not_fetched.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        true
    }

    async fn send_bad(
        &self,
        prefix: String,
        failure: Failure,
        found: &mpsc::Sender<ListedItem>,
        counts: &mut Summary,
    ) -> bool {
        let path = format!("s3://{}/{prefix}", self.bucket.name);
        let mark = Mark { input: self.index, key: format!("{prefix}{END}") };
        let before = std::mem::take(counts);
        found.send(ListedItem::Bad { path, failure, mark, before }).await.is_ok()
    }
}

fn place(part: &Part) -> &str {
    match part {
        Part::Object { object, .. } => &object.key,
        Part::Leaf(leaf) => &leaf.prefix,
        Part::Trail(prefix) | Part::Bad { prefix, .. } => prefix,
    }
}
