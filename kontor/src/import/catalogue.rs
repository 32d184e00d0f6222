//! The articles a file speaks of: every stock code, whatever its case, once.

use std::collections::HashMap;
use std::hash::Hash;

use chrono::{DateTime, Utc};
use kontor_domain::Sku;

use super::file::{Line, Text};
use super::plan::clean;

/// What a stock code becomes.
#[derive(Debug)]
pub(super) struct Article {
    /// The code as most lines spell it.
    pub(super) sku: Text,
    /// What most priced lines call it; the code, if none does.
    pub(super) name: String,
    /// Its shelf.
    pub(super) category: &'static str,
    /// What most priced lines ask for a piece, in pence; 0 if none does.
    pub(super) price: i64,
    /// When it is first mentioned.
    pub(super) since: DateTime<Utc>,
    /// Pieces that leave the house, sold or lost: what has to come in first. None leave if nothing was taken.
    pub(super) pieces: u64,
    /// Whether any line of it was taken.
    pub(super) used: bool,
}

/// All articles.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// In the order in which the file first mentions them.
    pub(super) articles: Vec<Article>,
    /// By code as spelt.
    by_code: HashMap<Text, usize>,
}

impl Catalogue {
    /// Which article a line is about.
    pub(super) fn article(&self, line: &Line) -> Option<usize> {
        self.by_code.get(&line.code).copied()
    }

    /// The articles of these lines, which are in the order of their times.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a Line>) -> Self {
        let mut by_code: HashMap<Text, usize> = HashMap::new();
        let mut by_folded: HashMap<String, usize> = HashMap::new();
        let mut drafts: Vec<Draft> = Vec::new();
        for line in lines {
            let index = *by_code.entry(Text::clone(&line.code)).or_insert_with(|| {
                // As claims do it, so that two spellings of one SKU meet here and not there.
                let folded =
                    Sku::new(&*line.code).map_or_else(|_| line.code.to_lowercase(), |sku| sku.folded());
                *by_folded.entry(folded).or_insert_with(|| {
                    drafts.push(Draft::new(line.time));
                    drafts.len() - 1
                })
            });
            drafts[index].mention(line);
        }
        Self {
            articles: drafts.into_iter().map(Draft::article).collect(),
            by_code,
        }
    }
}

/// An article being put together.
struct Draft {
    since: DateTime<Utc>,
    spellings: Tally<Text>,
    names: Tally<Text>,
    prices: Tally<i64>,
}

impl Draft {
    fn new(since: DateTime<Utc>) -> Self {
        Self {
            since,
            spellings: Tally::default(),
            names: Tally::default(),
            prices: Tally::default(),
        }
    }

    fn mention(&mut self, line: &Line) {
        self.spellings.count(Text::clone(&line.code));
        // Lines without a price are notes on the stock: "damages" is no name.
        if line.price.0 > 0 && !line.description.is_empty() {
            self.names.count(Text::clone(&line.description));
        }
        if let Some(price) = line.price.pence()
            && price > 0
            && line.quantity > 0
        {
            self.prices.count(price);
        }
    }

    fn article(self) -> Article {
        let sku = self.spellings.winner().unwrap_or_default();
        let name = clean(&self.names.winner().unwrap_or_else(|| Text::clone(&sku)), 200);
        Article {
            category: category(&sku, &name),
            name: if name.is_empty() { sku.to_string() } else { name },
            sku,
            price: self.prices.winner().unwrap_or(0),
            since: self.since,
            pieces: 0,
            used: false,
        }
    }
}

/// Counts how often each value comes.
struct Tally<T>(HashMap<T, (u64, usize)>);

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Tally<T> {
    fn count(&mut self, value: T) {
        let arrival = self.0.len();
        self.0.entry(value).or_insert((0, arrival)).0 += 1;
    }

    /// The most frequent; of several the one that came first.
    fn winner(self) -> Option<T> {
        self.0
            .into_iter()
            .max_by_key(|(_, (count, arrival))| (*count, std::cmp::Reverse(*arrival)))
            .map(|(value, _)| value)
    }
}

/// Whether a code stands for goods. Fees, postage, discounts and entries by hand have codes without a digit.
pub(super) fn is_goods(code: &str) -> bool {
    code.bytes().any(|byte| byte.is_ascii_digit())
}

/// The first shelf with a word of the name goes; a plural is the same word.
const SHELVES: [(&str, &[&str]); 9] = [
    ("vouchers", &["VOUCHER"]),
    (
        "christmas",
        &[
            "CHRISTMAS",
            "XMAS",
            "ADVENT",
            "NATIVITY",
            "REINDEER",
            "SANTA",
            "SNOWFLAKE",
        ],
    ),
    (
        "lights",
        &["LIGHT", "CANDLE", "LANTERN", "LAMP", "INCENSE", "CANDLEHOLDER"],
    ),
    ("bags", &["BAG", "PURSE", "SHOPPER", "BACKPACK"]),
    (
        "kitchen",
        &[
            "MUG",
            "CUP",
            "TEACUP",
            "TEAPOT",
            "PLATE",
            "BOWL",
            "CAKE",
            "CAKESTAND",
            "BAKING",
            "APRON",
            "JAM",
            "JAR",
            "SPOON",
            "NAPKIN",
            "KITCHEN",
            "LUNCH",
            "BOTTLE",
            "GLASS",
            "TEA",
            "COFFEE",
            "BISCUIT",
            "OVEN",
            "JUG",
        ],
    ),
    (
        "stationery",
        &[
            "CARD", "WRAP", "PAPER", "PENCIL", "PEN", "NOTEBOOK", "STICKER", "TAPE", "RIBBON", "CHALK",
        ],
    ),
    (
        "jewellery",
        &["NECKLACE", "EARRING", "BRACELET", "RING", "BROOCH", "HAIRCLIP"],
    ),
    ("party", &["PARTY", "BUNTING", "BALLOON", "GARLAND"]),
    (
        "home",
        &[
            "CLOCK", "FRAME", "MIRROR", "CUSHION", "DOORMAT", "HOOK", "HANGER", "SIGN", "DRAWER", "CABINET",
            "STOOL", "BOX", "TIN", "TRAY", "WALL", "DOORSTOP", "HEART", "GARDEN", "POT",
        ],
    ),
];

fn category(code: &str, name: &str) -> &'static str {
    if !is_goods(code) {
        return "services";
    }
    let name = name.to_uppercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
    let stands_on = |known: &[&str]| {
        words.iter().any(|word| {
            known
                .iter()
                .any(|it| *word == *it || word.strip_suffix('S') == Some(*it))
        })
    };
    SHELVES
        .iter()
        .find(|(_, known)| stands_on(known))
        .map_or("gifts", |(shelf, _)| shelf)
}
