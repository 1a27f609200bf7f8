//! Local time is that of `date` under the same `TZ`.
#![cfg(unix)]

use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use logcore_formatters::{Clock, take_zone_problem};

/// A second of a winter and one of a summer.
const SECONDS: [u64; 2] = [1_767_225_600, 1_782_864_000];

/// Is run as a process of its own, for its environment, and says what it finds.
#[test]
#[allow(clippy::print_stdout, reason = "the process that started this one reads it")]
fn says_the_time_of_its_zone() {
    let mut said = String::new();
    for second in SECONDS {
        said.push('|');
        Clock::default().write(UNIX_EPOCH + Duration::from_secs(second), false, false, &mut said);
    }
    let problems = [take_zone_problem(), take_zone_problem()];
    println!("{said}|{}|", problems.iter().flatten().count());
}

fn said_in(zone: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["says_the_time_of_its_zone", "--exact", "--nocapture"])
        .env("TZ", zone)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains('|')).unwrap();
    line.split('|').skip(1).map(str::to_owned).collect()
}

fn date_in(zone: &str, second: u64) -> String {
    let output = Command::new("date")
        .args(["-d", &format!("@{second}"), "+%F %T"])
        .env("TZ", zone)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn zones_are_those_of_date() {
    let zones = [
        "Europe/Berlin",
        ":America/New_York",
        "Asia/Kolkata",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "<+0530>-5:30",
        "/usr/share/zoneinfo/Australia/Lord_Howe",
        "UTC",
        "",
    ];
    for zone in zones {
        let said = said_in(zone);
        assert_eq!(said[..2], SECONDS.map(|second| date_in(zone, second)), "TZ={zone}");
        assert_eq!(said[2], "0", "TZ={zone}");
    }
}

#[test]
fn a_zone_that_is_not_there_is_utc_and_is_told_once() {
    for zone in ["Mars/Olympus_Mons", ":nowhere", "/etc/passwd"] {
        let said = said_in(zone);
        assert_eq!(said[..2], SECONDS.map(|second| date_in("UTC", second)), "TZ={zone}");
        assert_eq!(said[2], "1", "TZ={zone}");
    }
}
