import java.util.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;

/** Leaves a group behind whose records are known: arguments broker, topic (of one partition) and group. */
public final class Grouped extends Harness {
  public static void main(String[] args) throws Exception {
    broker = args[0];
    String topic = args[1], group = args[2];
    try (Member a = new Member(group, List.of(topic), "group.instance.id", "kept")) {
      eventually(1, "the group is stable", () -> a.owned.size());
      a.ask(c -> {
        c.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(1234, Optional.of(0), "a word")));
        return null;
      });
    }
  }
}
