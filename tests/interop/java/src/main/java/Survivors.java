import java.io.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;

/**
 * A group that lives through deaths of its broker (the argument). It prints "now" when the broker may die, and waits for a line that says that it
 * is back. All the time a producer writes, and the members commit what they read.
 */
public final class Survivors extends Harness {
  private static final BufferedReader IN = new BufferedReader(new InputStreamReader(System.in));
  private static final int PARTITIONS = 6;

  public static void main(String[] args) {
    broker = args[0];
    test("restart: a group and its offsets live through deaths of the broker", Survivors::run);
    System.exit(failed == 0 ? 0 : 1);
  }

  /** Commits after every poll; what was acknowledged is kept. */
  private static final class Committer extends Thread {
    final Member member;
    final Map<TopicPartition, Long> acknowledged = new ConcurrentHashMap<>();
    volatile boolean stopping;

    Committer(Member member) {
      this.member = member;
      setDaemon(true);
      start();
    }

    @Override
    public void run() {
      while (!stopping) {
        try {
          member.ask(c -> {
            Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
            for (TopicPartition p : c.assignment()) positions.put(p, new OffsetAndMetadata(c.position(p, Duration.ofSeconds(5))));
            c.commitSync(positions, Duration.ofSeconds(5));
            positions.forEach((p, o) -> acknowledged.merge(p, o.offset(), Math::max));
            return null;
          });
          sleep(5);
        } catch (Exception e) {
          // The broker is gone, or a rebalance is under way: the next one will do.
        }
      }
    }
  }

  /** Says that the broker may die, and waits until it is back. */
  private static void death() throws Exception {
    System.out.println("now");
    System.out.flush();
    if (IN.readLine() == null) throw new EOFException("nobody answers");
  }

  private static void run() throws Exception {
    String topic = create("survivors", PARTITIONS), group = topic;
    AtomicBoolean stop = new AtomicBoolean();
    Map<Integer, Long> written = new ConcurrentHashMap<>();
    AtomicReference<Exception> lost = new AtomicReference<>();
    List<Committer> committers = new ArrayList<>();
    try (KafkaProducer<byte[], byte[]> p = producer("delivery.timeout.ms", 120_000); Admin admin = admin();
        Member a = new Member(group, List.of(topic)); Member b = new Member(group, List.of(topic)); Member c = new Member(group, List.of(topic), "group.instance.id", "fixed")) {
      Thread writer = new Thread(() -> {
        for (int i = 0; !stop.get(); i++) {
          p.send(new ProducerRecord<>(topic, i % PARTITIONS, null, bytes("" + i)), (m, e) -> {
            if (e != null) lost.set(e);
            else written.merge(m.partition(), m.offset() + 1, Math::max);
          });
          try {
            Thread.sleep(1);
          } catch (InterruptedException e) {
            return;
          }
        }
        p.flush();
      });
      writer.start();
      for (Member m : List.of(a, b, c)) committers.add(new Committer(m));
      Member.stable(topic, PARTITIONS, new int[] {2, 2, 2}, a, b, c);
      eventually(true, "commits flow", () -> committers.stream().flatMap(m -> m.acknowledged.keySet().stream()).distinct().count() == PARTITIONS);

      // While all is stable: nobody notices but by a pause.
      int generation = a.generation();
      death();
      kept(admin, group, committers);
      moves(committers);
      equal(generation, a.generation(), "generation after a death of the broker");
      equal(generation, c.generation(), "generation of the static member");

      // In the middle of a rebalance, and of commits.
      int taken = a.taken.size() + b.taken.size() + c.taken.size();
      Member d = new Member(group, List.of(topic));
      committers.add(new Committer(d));
      eventually(true, "a rebalance began", () -> a.taken.size() + b.taken.size() + c.taken.size() > taken);
      death();
      Member.stable(topic, PARTITIONS, new int[] {2, 2, 1, 1}, a, b, c, d);
      kept(admin, group, committers);
      moves(committers);

      // An orderly stop, and one leaves meanwhile.
      death();
      kept(admin, group, committers);
      committers.get(3).stopping = true;
      committers.remove(3).join();
      d.close();
      Member.stable(topic, PARTITIONS, new int[] {2, 2, 2}, a, b, c);
      moves(committers);

      stop.set(true);
      writer.join();
      equal(null, lost.get(), "a record that was not taken");
      // Everything that was acknowledged is read, and every record by somebody.
      eventually(written, "committed at last", () -> {
        Map<Integer, Long> found = new HashMap<>();
        Groups.offsets(admin, group).forEach((t, o) -> found.put(t.partition(), o));
        return found;
      });
      Set<String> read = new HashSet<>();
      for (Member m : List.of(a, b, c, d)) read.addAll(m.values());
      long count = written.values().stream().mapToLong(o -> o).sum();
      equal(count, (long) read.size(), "different records read");
      for (Committer m : committers) {
        m.stopping = true;
        m.join();
      }
      for (Member m : List.of(a, b, c, d)) equal(null, m.failure, "what ended a member");
      c.close();
      admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
    }
  }

  /** No acknowledged commit is taken back. What was acknowledged is looked at first: it only grows. */
  private static void kept(Admin admin, String group, List<Committer> committers) throws Exception {
    Map<TopicPartition, Long> wanted = new HashMap<>();
    for (Committer m : committers) m.acknowledged.forEach((p, o) -> wanted.merge(p, o, Math::max));
    Map<TopicPartition, Long> found = Groups.offsets(admin, group);
    wanted.forEach((p, o) -> check(found.getOrDefault(p, -1L) >= o, "offset " + o + " of " + p + " was acknowledged, but it is " + found.get(p)));
  }

  /** Waits until every partition's commits went on. */
  private static void moves(List<Committer> committers) throws Exception {
    List<Map<TopicPartition, Long>> before = new ArrayList<>();
    for (Committer m : committers) before.add(new HashMap<>(m.acknowledged));
    eventually(PARTITIONS, "partitions whose commits went on", () -> {
      Set<TopicPartition> on = new HashSet<>();
      for (int i = 0; i < before.size(); i++) {
        Map<TopicPartition, Long> was = before.get(i);
        committers.get(i).acknowledged.forEach((p, o) -> {
          if (o > was.getOrDefault(p, -1L)) on.add(p);
        });
      }
      return on.size();
    });
  }
}
