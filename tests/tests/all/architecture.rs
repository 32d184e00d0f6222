//! The shape of the house, as far as a machine can see it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Each crate, and the crates of the house it may know. `domain <- eventstore <- {projections, fulfilment} <- api <-
/// kontor <- tests`.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("kontor-domain", &[]),
    ("kontor-eventstore", &["kontor-domain"]),
    ("kontor-projections", &["kontor-domain", "kontor-eventstore"]),
    ("kontor-fulfilment", &["kontor-domain", "kontor-eventstore"]),
    (
        "kontor-api",
        &[
            "kontor-domain",
            "kontor-eventstore",
            "kontor-projections",
            "kontor-fulfilment",
        ],
    ),
    (
        "kontor",
        &[
            "kontor-domain",
            "kontor-eventstore",
            "kontor-projections",
            "kontor-fulfilment",
            "kontor-api",
        ],
    ),
    (
        "kontor-tests",
        &[
            "kontor-domain",
            "kontor-eventstore",
            "kontor-projections",
            "kontor-fulfilment",
            "kontor-api",
            "kontor",
        ],
    ),
];

/// What decisions are made without: a database, a runtime, the network, a clock.
const NOT_IN_DOMAIN: &[&str] = &[
    "sqlx",
    "postgres-es",
    "redis",
    "tokio",
    "async-graphql",
    "axum",
    "chrono",
    "rand",
];

/// A file longer than this asks to be split by concept.
const LINES: usize = 450;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file below a folder.
pub(crate) fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn dependencies() -> BTreeMap<String, Vec<(String, DependencyKind)>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let packages = metadata.packages.into_iter().map(|package| {
        let dependencies = package
            .dependencies
            .into_iter()
            .map(|it| (it.name, it.kind))
            .collect();
        (package.name.to_string(), dependencies)
    });
    packages.collect()
}

#[test]
fn crates_know_only_those_below_them() {
    let dependencies = dependencies();
    let rooms: BTreeSet<&str> = MAY_KNOW.iter().map(|(room, _)| *room).collect();
    assert_eq!(
        dependencies.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        rooms,
        "a crate without a place"
    );
    for (room, may_know) in MAY_KNOW {
        for (dependency, _) in &dependencies[*room] {
            let known = !rooms.contains(dependency.as_str()) || may_know.contains(&dependency.as_str());
            assert!(known, "{room} knows {dependency}");
        }
    }
}

#[test]
fn the_domain_decides_without_the_world() {
    for (dependency, kind) in &dependencies()["kontor-domain"] {
        let forbidden = *kind == DependencyKind::Normal && NOT_IN_DOMAIN.contains(&dependency.as_str());
        assert!(!forbidden, "kontor-domain depends on {dependency}");
    }
}

#[test]
fn files_fit_in_a_head() {
    let mut too_long = Vec::new();
    for (room, _) in MAY_KNOW {
        let folder = root().join(room.trim_start_matches("kontor-")).join("src");
        for file in sources(&folder) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            if lines > LINES {
                too_long.push(format!(
                    "{}: {lines} lines",
                    file.strip_prefix(root()).unwrap().display()
                ));
            }
        }
    }
    assert!(too_long.is_empty(), "to be split by concept: {too_long:#?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let skipped = format!("#[{}", "ignore");
    for (room, _) in MAY_KNOW {
        for file in sources(&root().join(room.trim_start_matches("kontor-"))) {
            let text = std::fs::read_to_string(&file).unwrap();
            for mark in marks.iter().chain([&skipped]) {
                assert!(!text.contains(mark.as_str()), "{} has a {mark}", file.display());
            }
        }
    }
}
