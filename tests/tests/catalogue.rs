//! The catalogue: what every playbook and action must be, and the pages made from them.
//!
//! `FIREBREAK_WRITE=1 cargo test --workspace --test catalogue` writes the pages anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use firebreak::action::AnyAction;
use firebreak::finding::{Answers, Finding, UNANSWERED, When, parse};
use firebreak::guard::{PlanFacts, Policies, Question, rule};
use firebreak::permission::Permission;
use firebreak::plan::{Leave, Undo};
use firebreak::playbook::{Playbook, Purpose};
use firebreak::run::Mode;
use firebreak_tests::deployment::{FUNCTIONS, deployed};
use firebreak_tests::emulator::workspace;

/// The headings of a playbook's doc comment, in this order.
const HEADINGS: [&str; 7] = [
    "What it answers",
    "What it does",
    "What may break",
    "How it is undone",
    "What it will not touch",
    "Drill",
    "References",
];

const HOW_TO_WRITE: &str = "FIREBREAK_WRITE=1 cargo test --workspace --test catalogue";

fn playbooks() -> impl Iterator<Item = (&'static str, &'static dyn Playbook)> {
    FUNCTIONS.iter().flat_map(|function| function.playbooks.iter().map(|playbook| (function.name, *playbook)))
}

fn actions() -> BTreeMap<&'static str, &'static dyn AnyAction> {
    playbooks().flat_map(|(_, playbook)| playbook.actions()).map(|action| (action.name(), *action)).collect()
}

fn source_of(function: &str, playbook: &dyn Playbook) -> PathBuf {
    PathBuf::from(format!("functions/{function}/src/{}.rs", playbook.meta().id.replace('-', "_")))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = workspace().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of a file's `//!` lines.
fn doc_of(source: &str) -> Vec<&str> {
    let lines = source.lines().take_while(|line| line.starts_with("//!"));
    lines.map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default()).collect()
}

fn types() -> Vec<String> {
    let list = read("events/guardduty/TYPES.txt");
    list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
}

fn kebab(word: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    word.split('-').all(part)
}

/// Compares a made text with the committed one, or writes it.
fn check(path: &str, made: &str) {
    let file = workspace().join(path);
    if std::env::var_os("FIREBREAK_WRITE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, made).unwrap();
        return;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == made, "{path} is not what the code says; write it anew: {HOW_TO_WRITE}");
}

/// What is not listed would have no law, no page, no role, and nobody would notice.
#[test]
fn every_function_and_every_playbook_is_listed() {
    let folders: BTreeSet<String> = fs::read_dir(workspace().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let listed: BTreeSet<String> = deployed().map(|function| function.name.to_owned()).collect();
    assert_eq!(folders, listed, "FUNCTIONS in tests/src/deployment.rs lists every folder of functions/");
    for function in deployed() {
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(workspace().join("functions").join(function.name).join("src")).unwrap() {
            let path = entry.unwrap().path();
            let is_one = |text: &str| text.contains("impl Playbook for ") || text.contains("impl Fix for ");
            if path.is_file() && is_one(&read(&path)) {
                files.insert(path.file_stem().unwrap().to_string_lossy().replace('_', "-"));
            }
        }
        let listed: BTreeSet<String> = function.playbooks.iter().map(|p| p.meta().id.to_owned()).collect();
        assert_eq!(files, listed, "{}: PLAYBOOKS lists what its files hold", function.name);
    }
}

#[test]
fn every_playbook_is_named_for_its_effect_and_its_file() {
    let mut seen = BTreeSet::new();
    for (function, playbook) in playbooks() {
        let id = playbook.meta().id;
        assert!(seen.insert(id), "{id} is there twice");
        assert!(kebab(id) && id.contains('-'), "{id} is not kebab-case verb-object");
        for bad in ["auto-", "remediate-", "handle-"] {
            assert!(!id.starts_with(bad), "{id}: name it for what it brings about");
        }
        assert!(!id.ends_with("-playbook") && !id.ends_with("-handler"), "{id}: name it for what it brings about");
        assert!(workspace().join(source_of(function, playbook)).exists(), "{id} has no file of its name");
        assert!(!playbook.meta().title.ends_with('.') && playbook.meta().title.len() <= 100, "{id}: its title");
    }
}

#[test]
fn every_playbook_has_the_headings_of_its_page() {
    for (function, playbook) in playbooks() {
        let path = source_of(function, playbook);
        let source = read(&path);
        let doc = doc_of(&source);
        let shown = path.display();
        assert!(doc.first().is_some_and(|line| line.starts_with("# ")), "{shown} does not begin with its title");
        let headings: Vec<&str> = doc.iter().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, HEADINGS, "{shown}");
        for pair in doc.windows(3) {
            assert!(!(pair[0].starts_with("## ") && pair[2].starts_with("## ")), "{shown}: `{}` is empty", pair[0]);
        }
        let links = doc.iter().filter(|line| line.starts_with("- <https://")).count();
        assert!(links > 0, "{shown} has no reference");
    }
}

#[test]
fn every_trigger_is_a_known_type_and_stands_once() {
    let known: BTreeSet<String> = types().into_iter().collect();
    for (_, playbook) in playbooks() {
        let meta = playbook.meta();
        assert!(meta.answers().next().is_some() || !meta.controls.is_empty(), "{} answers nothing", meta.id);
        let mut seen = BTreeSet::new();
        for answers in meta.answers() {
            assert!(seen.insert(answers.finding_type), "{} names {} twice", meta.id, answers.finding_type);
            assert!(known.contains(answers.finding_type), "{}: AWS has no type {}", meta.id, answers.finding_type);
        }
    }
}

/// Two fixes of one control would work side by side on one resource.
#[test]
fn every_control_has_one_fix() {
    let mut seen = BTreeSet::new();
    for (_, playbook) in playbooks() {
        for check in playbook.meta().controls {
            let rule = check.rule.into_iter().flat_map(|(identifier, name)| [identifier, name]);
            let names: Vec<&str> = check.control.into_iter().chain(check.also.iter().copied()).chain(rule).collect();
            assert!(!names.is_empty(), "{}: a check without a name", playbook.meta().id);
            for name in names {
                assert!(seen.insert(name), "{name} stands twice, in {} too", playbook.meta().id);
            }
        }
    }
}

#[test]
fn every_playbook_answers_an_event_that_is_kept_here() {
    let mut findings: Vec<Finding> = Vec::new();
    let folders = ["events/guardduty", "events/securityhub"].map(|folder| workspace().join(folder));
    for entry in folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let document = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            findings.extend(parse(&document).unwrap().findings.into_iter().flatten());
        }
    }
    for (_, playbook) in playbooks() {
        let answers =
            findings.iter().any(|finding| !playbook.targets(finding).is_empty() || playbook.looks_up(finding));
        assert!(answers, "{} answers none of the events in events/", playbook.meta().id);
    }
}

#[test]
fn every_action_is_named_as_its_file_and_listed_by_a_playbook() {
    let actions = actions();
    for name in actions.keys() {
        let (service, rest) = name.split_once('.').unwrap_or_else(|| panic!("{name} is not service.verb-object"));
        assert!(kebab(service) && !service.contains('-') && kebab(rest) && rest.contains('-'), "{name}");
        let file = format!("shared/src/actions/{service}/{}.rs", rest.replace('-', "_"));
        assert!(workspace().join(&file).exists(), "{name} has no file {file}");
    }
    for service in fs::read_dir(workspace().join("shared/src/actions")).unwrap() {
        let service = service.unwrap().path();
        if !service.is_dir() {
            continue;
        }
        for file in fs::read_dir(&service).unwrap() {
            let stem = file.unwrap().path().file_stem().unwrap().to_string_lossy().replace('_', "-");
            let name = format!("{}.{stem}", service.file_name().unwrap().to_string_lossy());
            assert!(stem == "mod" || actions.contains_key(name.as_str()), "no playbook lists the action {name}");
        }
    }
}

#[test]
fn two_playbooks_mean_the_same_action_by_a_name() {
    let all = actions();
    for (_, playbook) in playbooks() {
        let mut within = BTreeSet::new();
        for action in playbook.actions() {
            let (name, id) = (action.name(), playbook.meta().id);
            assert!(within.insert(name), "{id} lists {name} twice");
            assert_eq!(action.permissions(), all[name].permissions(), "{name} means two things");
            assert_eq!(action.undo_kind(), all[name].undo_kind(), "{name} means two things");
        }
    }
}

/// Journals hold the names. A name that was ever released is known for good.
#[test]
fn no_action_name_is_ever_lost() {
    let path = "tests/catalogue/action-names.txt";
    let known = read(path);
    let known: BTreeSet<&str> = known.lines().filter(|line| !line.starts_with('#')).collect();
    let now: BTreeSet<&str> = actions().into_keys().collect();
    let lost: Vec<_> = known.difference(&now).collect();
    assert!(lost.is_empty(), "journals may hold these names, which are gone: {lost:?}");
    let new: Vec<_> = now.difference(&known).collect();
    assert!(new.is_empty(), "add to {path}: {new:?}");
}

#[test]
fn every_permission_is_exact() {
    let of_actions = actions().into_iter().map(|(name, action)| (name, action.permissions()));
    let of_plans = playbooks().map(|(_, playbook)| (playbook.meta().id, playbook.meta().reads));
    for (whose, permissions) in of_actions.chain(of_plans) {
        for permission in permissions {
            well_formed(whose, permission);
        }
    }
}

fn well_formed(whose: &str, permission: &Permission) {
    let shown = permission.action;
    let (service, operation) = shown.split_once(':').unwrap_or_else(|| panic!("{whose}: {shown}"));
    assert!(service.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{whose}: {shown}");
    let letters = operation.bytes().all(|byte| byte.is_ascii_alphanumeric());
    assert!(letters && operation.starts_with(|first: char| first.is_ascii_uppercase()), "{whose}: {shown}");
    for on in permission.on {
        let parts: Vec<&str> = on.splitn(4, ':').collect();
        assert_eq!(parts.len(), 4, "{whose}: {shown} on {on}: service:region:account:resource");
        assert_eq!(parts[0], service, "{whose}: {shown} on {on}");
        assert!(["*", "any", ""].contains(&parts[2]), "{whose}: {shown} on {on}: the account itself, any, or none");
        // The ARN of a bucket is its name alone.
        let buckets = service == "s3" && parts[1].is_empty() && parts[2].is_empty();
        assert!(parts[3] != "*" || buckets, "{whose}: {shown} on {on}: every resource of the service");
    }
    let reads = firebreak::session::only_reads(operation);
    assert!(reads || !permission.on.is_empty(), "{whose}: {shown} changes something and names no resource");
}

/// Otherwise the starter set, which promises to enforce, would only ever propose.
#[test]
fn the_starter_set_knows_every_change_that_undo_cannot_give_back() {
    let starter = read("policies/starter.cedar");
    for (name, action) in actions() {
        let inexact = action.undo_kind() != Undo::Exact && action.leave().is_none();
        assert!(!inexact || starter.contains(&format!("\"{name}\"")), "policies/starter.cedar does not name {name}");
    }
}

#[test]
fn the_policies_that_the_pages_show_validate() {
    let readme = read("README.md");
    let shown: Vec<&str> = readme.split("```cedar\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!shown.is_empty());
    for policies in shown.into_iter().chain([read("policies/starter.cedar").as_str()]) {
        Policies::parse(policies).and_then(|set| set.validate()).unwrap_or_else(|error| panic!("{error}\n{policies}"));
    }
}

/// What the README says of its example.
#[test]
fn the_example_policies_decide_as_the_readme_says() {
    let readme = read("README.md");
    let example = readme.split("```cedar\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let policies = Policies::parse(example).unwrap();
    let document = serde_json::from_str(&read("events/guardduty/crypto-mining-dns.json")).unwrap();
    let finding = parse(&document).unwrap().findings.remove(0).unwrap();
    assert!((finding.severity - 8.0).abs() < f64::EPSILON && finding.account.as_str() == "222222222222");
    let ask = |account: &str, now: &str| {
        let (_, playbook) = playbooks().find(|(_, playbook)| playbook.meta().id == "isolate-instance").unwrap();
        let mut target = playbook.targets(&finding).remove(0);
        target.account = account.parse().unwrap();
        let question = Question {
            playbook: "isolate-instance",
            target: &target,
            tags: &BTreeMap::new(),
            units: Err("nobody asked AWS"),
            finding: &finding,
            plan: PlanFacts::default(),
            spent_account: 0,
            spent_total: 0,
            now: now.parse().unwrap(),
            hub_account: "111111111111",
            break_glass: &[],
        };
        rule(&policies, &question)
    };
    let at_once = ask("222222222222", "2027-01-01T00:00:00Z");
    assert_eq!((at_once.mode, at_once.hold_seconds), (Mode::Enforce, Some(72 * 3600)));
    assert_eq!(ask("444455556666", "2027-01-01T00:00:00Z").mode, Mode::Propose);
    assert_eq!(ask("444455556666", "2027-07-01T00:00:00Z").mode, Mode::Enforce);
}

/// Every file that a page points to is there.
#[test]
fn no_link_between_the_pages_is_broken() {
    let mut pages: Vec<PathBuf> = Vec::new();
    let mut folders = vec![workspace().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"] {
        pages.push(workspace().join(name));
    }
    for page in pages {
        let text = read(&page);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let file = page.parent().unwrap().join(link.split('#').next().unwrap_or_default());
            assert!(file.exists(), "{} points to {link}", page.display());
        }
    }
}

/// What a page says is shown by a test, is.
#[test]
fn every_test_that_the_lessons_name_is_there() {
    let page = read("docs/lessons.md");
    let mut named = 0;
    for row in page.lines().filter(|line| line.starts_with("| L") && !line.starts_with("| Lesson")) {
        let shown: Vec<&str> = row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2).collect();
        let [file, test] = shown.as_slice() else { panic!("{row}: no file and test") };
        assert!(read(file).contains(&format!("fn {test}(")), "{file} has no test {test}");
        named += 1;
    }
    assert!(named > 15, "{named}");
}

/// A newcomer finds each file that the map of the code names.
#[test]
fn every_file_that_the_architecture_names_is_there() {
    let page = read("ARCHITECTURE.md");
    let is_file = |word: &&str| word.ends_with(".rs") && !word.contains(['<', '*', ' ']);
    for file in page.split('`').skip(1).step_by(2).filter(is_file) {
        let places = ["", "shared/src/"].map(|place| workspace().join(place).join(file));
        assert!(places.iter().any(|place| place.exists()), "ARCHITECTURE.md names {file}");
    }
}

#[test]
fn the_pages_of_the_playbooks_are_made_from_the_code() {
    let mut pages = BTreeSet::new();
    for (function, playbook) in playbooks() {
        let path = format!("docs/playbooks/{}.md", playbook.meta().id);
        check(&path, &page(function, playbook));
        pages.insert(workspace().join(path));
    }
    for entry in fs::read_dir(workspace().join("docs/playbooks")).unwrap() {
        let path = entry.unwrap().path();
        assert!(pages.contains(&path), "{} is of no playbook", path.display());
    }
}

fn page(function: &str, playbook: &dyn Playbook) -> String {
    let meta = playbook.meta();
    let path = source_of(function, playbook);
    let source = read(&path);
    let mut out = format!("<!-- Made from {}: edit that, then run {HOW_TO_WRITE} -->\n\n", path.display());
    let mut doc = doc_of(&source).into_iter();
    let purpose = match meta.purpose {
        Purpose::Contain => "It contains: its success is `contained`.",
        Purpose::Preserve => "It keeps evidence: its success is `preserved`.",
        Purpose::Fix => {
            "It fixes what a control found: its success is `fixed`, and what cannot be finished is put back."
        }
    };
    let _ = writeln!(out, "{}\n", doc.next().unwrap_or_default());
    let _ = writeln!(out, "`{}`, of the function `{function}`. {}. {purpose}", meta.id, meta.title);
    if meta.answers().count() > 0 {
        let _ = writeln!(
            out,
            "It answers {} finding types, all listed in [GuardDuty's finding types](../guardduty-types.md).",
            meta.answers().count()
        );
    }
    if !meta.controls.is_empty() {
        let _ = writeln!(
            out,
            "\n| Control of Security Hub | As a standard numbers it | Rule of AWS Config |\n|---|---|---|"
        );
        for check in meta.controls {
            let code = |text: &str| format!("`{text}`");
            let also: Vec<String> = check.also.iter().map(|text| code(text)).collect();
            let rule = check.rule.map(|(identifier, name)| format!("`{name}` (`{identifier}`)")).unwrap_or_default();
            let _ =
                writeln!(out, "| {} | {} | {rule} |", check.control.map(code).unwrap_or_default(), also.join("<br>"));
        }
    }
    for line in doc {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "\n## Actions\n\nEvery action that a plan of this playbook may hold.\n");
    let _ = writeln!(out, "| Action | What undo gives back | Leave it needs | Permissions |\n|---|---|---|---|");
    let mut listed: Vec<_> = playbook.actions().to_vec();
    listed.sort_by_key(|action| action.name());
    for action in listed {
        let undo = match action.undo_kind() {
            Undo::Exact => "everything".to_owned(),
            Undo::Equivalent { differs, why } => format!("all but {differs}: {why}"),
            Undo::Never { why } => format!("nothing: {why}"),
        };
        let leave = action.leave().map_or_else(|| "–".to_owned(), |leave| format!("`{}`", leave.as_str()));
        let permissions: BTreeSet<String> =
            action.permissions().iter().map(|permission| format!("`{}`", permission.action)).collect();
        let permissions = Vec::from_iter(permissions).join("<br>");
        let _ = writeln!(out, "| `{}` | {undo} | {leave} | {permissions} |", action.name());
    }
    let reads: Vec<String> = meta.reads.iter().map(|permission| format!("`{}`", permission.action)).collect();
    if !reads.is_empty() {
        let _ = writeln!(out, "\nPlans read besides: {}.", reads.join(", "));
    }
    if playbook.actions().iter().any(|action| action.leave().is_some()) {
        let leaves: Vec<String> = Leave::ALL.iter().map(|leave| format!("`{}`", leave.as_str())).collect();
        let _ = writeln!(
            out,
            "\nA step that needs a leave is in a plan only where a policy permits the leave by name ({}).",
            leaves.join(", ")
        );
    }
    out
}

fn condition(when: When) -> &'static str {
    match when {
        When::Always => "always",
        When::Acting => "if the instance is the actor",
        When::Outbound => "if the instance is the actor or opened the connection",
        When::NamesInstance => "if it names an instance (none on Fargate)",
        When::NamesKey => "if it names a user's long-term key",
        When::NamesUser => "if it names a user by a session or password",
        When::NamesSession => "if it names a session of a role",
    }
}

#[test]
fn the_page_of_finding_types_is_made_from_the_code() {
    let mut out = format!("<!-- Made from the code: {HOW_TO_WRITE} -->\n\n# GuardDuty's finding types\n\n");
    let known = types();
    let mut rows = String::new();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let mut sorted = known.clone();
    sorted.sort();
    for name in &sorted {
        let answering: Vec<(&str, &Answers)> = playbooks()
            .filter_map(|(_, playbook)| {
                let answers = playbook.meta().answers().find(|answers| answers.finding_type == name.as_str())?;
                Some((playbook.meta().id, answers))
            })
            .collect();
        let unanswered = UNANSWERED.iter().find(|(_, types)| types.contains(&name.as_str()));
        assert!(answering.is_empty() == unanswered.is_some(), "{name} has no decision, or two");
        let decision = match answering.as_slice() {
            [] => "notify".to_owned(),
            ids => ids.iter().map(|(id, _)| format!("[{id}](playbooks/{id}.md)")).collect::<Vec<_>>().join(", "),
        };
        let conditions: BTreeSet<&str> = answering.iter().map(|(_, answers)| condition(answers.when)).collect();
        let why = match (unanswered, Vec::from_iter(conditions).as_slice()) {
            (Some((reason, _)), _) => (*reason).to_owned(),
            (None, ["always"]) => "always".to_owned(),
            (None, [one]) => format!("{one}; else notify"),
            (None, _) => {
                let each = answering.iter().map(|(id, answers)| format!("{id} {}", condition(answers.when)));
                each.collect::<Vec<_>>().join("; ")
            }
        };
        let ids: Vec<&str> = answering.iter().map(|(id, _)| *id).collect();
        *count.entry(if ids.is_empty() { "notify".to_owned() } else { ids.join(" and ") }).or_default() += 1;
        let _ = writeln!(rows, "| `{name}` | {decision} | {why} |");
    }
    let _ = writeln!(
        out,
        "What is decided for each of the {} types. What a playbook may then do about a finding is the guard's\n\
         decision. *Notify* means that no playbook answers: nothing is changed, and the reason below is for the person who\n\
         looks at the finding (`firebreak explain FILE` prints it). If the type is about an instance (`EC2`, `Runtime`, or a type\n\
         that is answered in other cases), the reason goes out as an outcome event, and as a message the first time. Any other\n\
         type that reaches the function is logged and counted as turned away; most do not pass the rule of the template.\n\
         So it is with a type that is not in this list.\n",
        known.len()
    );
    for (what, count) in count {
        let _ = writeln!(out, "- {count}: {what}");
    }
    let _ = writeln!(out, "\n| Type | Answered by | When, or why not |\n|---|---|---|");
    out.push_str(&rows);
    check("docs/guardduty-types.md", &out);
}
