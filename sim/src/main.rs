//! Quick look.
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (from, n): (u64, u64) = (a[1].parse().unwrap(), a[2].parse().unwrap());
    std::panic::set_hook(Box::new(|_| {}));
    let mut kinds = std::collections::BTreeMap::<String, (u64, u64)>::new();
    let mut inputs = 0;
    parapull_sim::swarm(from..from + n, |s, r| {
        match r {
            Ok(run) => inputs += run.inputs(),
            Err(f) => {
                let m: String = f
                    .message()
                    .chars()
                    .filter(|c| !c.is_ascii_digit())
                    .take(110)
                    .collect();
                let e = kinds.entry(m).or_default();
                if e.0 == 0 {
                    e.1 = s.seed;
                    println!("seed {} {}: {:.400}", s.seed, f.exit_code(), f.message());
                }
                e.0 += 1;
            }
        }
        true
    });
    println!("inputs {inputs}");
    for (m, (n, s)) in kinds {
        println!("{n:6} (e.g. {s}) {m}");
    }
}
