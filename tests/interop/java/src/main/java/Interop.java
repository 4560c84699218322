import java.util.*;

/** Apache Kafka's own Java client and tools against the broker named by the first argument; the others name themes (all when there is none). */
public final class Interop extends Harness {
  public static void main(String[] args) {
    broker = args[0];
    Map<String, Runnable> themes = new LinkedHashMap<>();
    themes.put("client", Client::tests);
    themes.put("brokers", BrokerAdmin::tests);
    themes.put("tools", Tools::tests);
    // Not among those that run when none is named: what the broker under test does not offer yet.
    Map<String, Runnable> later = new LinkedHashMap<>();
    later.put("groups", Groups::tests);
    later.put("admin", GroupAdmin::tests);
    later.put("group-tools", GroupTools::tests);
    Set<String> wanted = new LinkedHashSet<>(List.of(args).subList(1, args.length));
    for (String theme : wanted.isEmpty() ? themes.keySet() : wanted) {
      Runnable tests = themes.getOrDefault(theme, later.get(theme));
      if (tests == null) throw new IllegalArgumentException("no such theme: " + theme);
      tests.run();
    }
    System.out.println(passed + " passed, " + failed + " failed");
    System.exit(failed == 0 ? 0 : 1);
  }
}
