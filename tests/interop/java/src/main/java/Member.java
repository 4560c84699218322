import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.Function;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;

/** One consumer of a classic group, polling in a thread of its own, with what it was given and what it read. */
final class Member implements AutoCloseable {
  final KafkaConsumer<byte[], byte[]> consumer;
  /** What it owns now; what it was ever given, what it ever gave up (revoked or lost), how often it was given something. */
  final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
  final List<TopicPartition> given = new CopyOnWriteArrayList<>(), taken = new CopyOnWriteArrayList<>(), lost = new CopyOnWriteArrayList<>();
  /** The values it read, in order. */
  final List<ConsumerRecord<byte[], byte[]>> read = new CopyOnWriteArrayList<>();
  /** What ended its polling, if anything did. */
  volatile Throwable failure;
  private final LinkedBlockingQueue<Runnable> asked = new LinkedBlockingQueue<>();
  private final Thread thread;
  private volatile boolean stopping, polls = true;

  /** Joins `group` for these topics; `settings` over those of `config`. */
  Member(String group, Collection<String> topics, Object... settings) {
    this(group, settings, topics, null);
  }

  /** As above, for the topics that match. */
  Member(String group, java.util.regex.Pattern topics, Object... settings) {
    this(group, settings, null, topics);
  }

  private Member(String group, Object[] settings, Collection<String> topics, java.util.regex.Pattern pattern) {
    consumer = Harness.consumer(config(group, settings));
    ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
      public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        owned.addAll(partitions);
        given.addAll(partitions);
      }

      public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        owned.removeAll(partitions);
        taken.addAll(partitions);
      }

      public void onPartitionsLost(Collection<TopicPartition> partitions) {
        owned.removeAll(partitions);
        lost.addAll(partitions);
      }
    };
    if (pattern != null) consumer.subscribe(pattern, listener);
    else consumer.subscribe(topics, listener);
    thread = new Thread(this::run, "member of " + group);
    thread.setDaemon(true);
    thread.start();
  }

  static Object[] config(String group, Object... settings) {
    List<Object> all = new ArrayList<>(List.of("group.id", group, "group.protocol", "classic", "auto.offset.reset", "earliest", "heartbeat.interval.ms", 100, "session.timeout.ms", 20000, "metadata.max.age.ms", 500));
    all.addAll(List.of(settings));
    return all.toArray();
  }

  private void run() {
    try {
      while (!stopping) {
        for (Runnable r; (r = asked.poll()) != null; ) r.run();
        if (!polls) {
          Runnable r = asked.poll(10, TimeUnit.MILLISECONDS);
          if (r != null) r.run();
          continue;
        }
        for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(20))) read.add(r);
      }
    } catch (Throwable t) {
      failure = t;
    }
    // Those who ask one that failed are answered too.
    while (!stopping) {
      try {
        Runnable r = asked.poll(10, TimeUnit.MILLISECONDS);
        if (r != null) r.run();
      } catch (InterruptedException e) {
        return;
      }
    }
  }

  /** Calls this in the member's own thread, between two polls. */
  <T> T ask(Function<KafkaConsumer<byte[], byte[]>, T> call) throws Exception {
    CompletableFuture<T> answer = new CompletableFuture<>();
    asked.add(() -> {
      try {
        answer.complete(call.apply(consumer));
      } catch (Throwable t) {
        answer.completeExceptionally(t);
      }
    });
    try {
      return answer.get(60, TimeUnit.SECONDS);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof RuntimeException) throw (RuntimeException) e.getCause();
      throw e;
    }
  }

  /** It goes on, but never polls again. */
  void stopPolling() {
    polls = false;
  }

  int generation() throws Exception {
    return ask(c -> c.groupMetadata().generationId());
  }

  String id() throws Exception {
    return ask(c -> c.groupMetadata().memberId());
  }

  /** The values read so far, as text. */
  List<String> values() {
    List<String> all = new ArrayList<>();
    for (ConsumerRecord<byte[], byte[]> r : read) all.add(Harness.text(r.value()));
    return all;
  }

  private void end() throws Exception {
    stopping = true;
    thread.join(60_000);
    if (thread.isAlive()) throw new AssertionError("a member does not stop");
  }

  /** Leaves the group (a static member stays in it). */
  @Override
  public void close() throws Exception {
    if (stopping) return;
    end();
    consumer.close(CloseOptions.timeout(Duration.ofSeconds(30)));
  }

  /** Is gone without a word to the group. */
  void vanish() throws Exception {
    end();
    consumer.close(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.REMAIN_IN_GROUP));
  }

  /** Waits until these share all partitions of the topic, each owned by one, so many each, in one generation. */
  static void stable(String topic, int partitions, int[] each, Member... members) throws Exception {
    Harness.eventually(List.of(each.length, "stable"), "members share " + topic, () -> {
      int[] counts = new int[members.length];
      Set<TopicPartition> all = new HashSet<>();
      int sum = 0;
      Set<Integer> generations = new HashSet<>();
      for (int i = 0; i < members.length; i++) {
        if (members[i].failure != null) throw new IllegalStateException("member " + i + " ended", members[i].failure);
        for (TopicPartition p : members[i].owned) {
          if (!p.topic().equals(topic)) continue;
          counts[i]++;
          sum++;
          all.add(p);
        }
        generations.add(members[i].generation());
      }
      Arrays.sort(counts);
      int[] wanted = each.clone();
      Arrays.sort(wanted);
      if (sum == partitions && all.size() == partitions && Arrays.equals(counts, wanted) && generations.size() == 1) return List.of(each.length, "stable");
      return Arrays.toString(counts) + " of " + partitions + ", generations " + generations;
    });
  }

  /** Waits until these have read `count` records together, and none twice. */
  static void haveRead(int count, Member... members) throws Exception {
    Harness.eventually(count, "records read", () -> {
      int n = 0;
      for (Member m : members) n += m.read.size();
      return n;
    });
    Set<String> once = new HashSet<>();
    for (Member m : members) for (ConsumerRecord<byte[], byte[]> r : m.read) Harness.check(once.add(r.topic() + "-" + r.partition() + "@" + r.offset()), "read twice: " + r);
  }
}
