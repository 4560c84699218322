import java.util.*;

/** Apache Kafka's own Java client and tools against the broker named by the first argument; the others name themes (all when there is none). */
public final class Interop extends Harness {
  public static void main(String[] args) {
    broker = args[0];
    Map<String, Runnable> themes = new LinkedHashMap<>();
    themes.put("client", Client::tests);
    themes.put("brokers", BrokerAdmin::tests);
    themes.put("tools", Tools::tests);
    themes.put("groups", Groups::tests);
    themes.put("admin", GroupAdmin::tests);
    themes.put("group-tools", GroupTools::tests);
    Set<String> wanted = new LinkedHashSet<>(List.of(args).subList(1, args.length));
    for (String theme : wanted.isEmpty() ? themes.keySet() : wanted) {
      if (!themes.containsKey(theme)) throw new IllegalArgumentException("no such theme: " + theme);
      themes.get(theme).run();
    }
    System.out.println(passed + " passed, " + failed + " failed");
    System.exit(failed == 0 ? 0 : 1);
  }
}
