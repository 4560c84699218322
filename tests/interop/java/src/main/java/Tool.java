import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.regex.Pattern;
import org.apache.kafka.common.utils.internals.Exit;

/**
 * One run of one of Kafka's command line tools, inside this JVM (a start of its own would cost a second each): its `main` in a thread, with what
 * it and the threads it starts print caught, its exits turned into an end of the thread, and its shutdown hooks run at its end.
 */
final class Tool {
  /** Longest a tool may take to end, seconds. */
  private static final int END_S = 60;
  /** How much of an output a failure shows, characters. */
  private static final int SHOWN = 1500;
  private static final InheritableThreadLocal<Tool> CURRENT = new InheritableThreadLocal<>();

  static {
    PrintStream out = System.out, err = System.err;
    InputStream in = System.in;
    System.setOut(new PrintStream(new Routed(true, out), true));
    System.setErr(new PrintStream(new Routed(false, err), true));
    System.setIn(new InputStream() {
      public int read() throws IOException {
        return CURRENT.get() == null ? in.read() : CURRENT.get().in.read();
      }

      public int read(byte[] b, int offset, int length) throws IOException {
        return CURRENT.get() == null ? in.read(b, offset, length) : CURRENT.get().in.read(b, offset, length);
      }
    });
    Exit.Procedure ends = (code, message) -> {
      // Several tools catch what is thrown here and exit again: the first word counts.
      Tool tool = CURRENT.get();
      if (tool.code == null) tool.code = code;
      throw new Ended();
    };
    Exit.setExitProcedure(ends);
    Exit.setHaltProcedure(ends);
    Exit.setShutdownHookAdder((name, hook) -> {
      if (CURRENT.get() != null) CURRENT.get().hooks.add(hook);
    });
  }

  private static final class Ended extends RuntimeException {
    Ended() {
      super("the tool exits", null, false, false);
    }
  }

  /** Goes to the tool whose thread writes, else to the real stream. */
  private static final class Routed extends OutputStream {
    private final boolean out;
    private final PrintStream otherwise;

    Routed(boolean out, PrintStream otherwise) {
      this.out = out;
      this.otherwise = otherwise;
    }

    @Override
    public void write(int b) {
      write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public void write(byte[] b, int offset, int length) {
      Tool tool = CURRENT.get();
      if (tool == null) {
        otherwise.write(b, offset, length);
        otherwise.flush();
        return;
      }
      synchronized (tool) {
        (out ? tool.out : tool.err).write(b, offset, length);
      }
    }
  }

  private final String name;
  private final Thread thread;
  /** Of a tool in a JVM of its own, else null. */
  private Process process;
  private final InputStream in;
  private final List<Runnable> hooks = new CopyOnWriteArrayList<>();
  private final ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
  /** As it exited; null while it did not. */
  private volatile Integer code;

  private Tool(String name, String stdin, String[] args) {
    this.name = name;
    in = new ByteArrayInputStream(stdin.getBytes(StandardCharsets.UTF_8));
    thread = new Thread(() -> {
      CURRENT.set(this);
      try {
        main(name).getMethod("main", String[].class).invoke(null, (Object) args);
      } catch (Throwable t) {
        Throwable cause = t instanceof java.lang.reflect.InvocationTargetException ? t.getCause() : t;
        if (!(cause instanceof Ended)) {
          cause.printStackTrace();
          code = 1;
        }
      }
      if (code == null) code = 0;
      hooks();
    }, name);
    thread.setDaemon(true);
    thread.start();
  }

  private Tool(String name, Process process) {
    this.name = name;
    this.process = process;
    in = InputStream.nullInputStream();
    Thread errors = new Thread(() -> copy(process.getErrorStream(), err));
    errors.start();
    thread = new Thread(() -> {
      copy(process.getInputStream(), out);
      try {
        errors.join();
        code = process.waitFor();
      } catch (InterruptedException e) {
        code = -1;
      }
    }, name);
    thread.setDaemon(true);
    thread.start();
  }

  private void copy(InputStream from, ByteArrayOutputStream to) {
    byte[] buffer = new byte[4096];
    try {
      for (int n; (n = from.read(buffer)) >= 0; ) {
        synchronized (this) {
          to.write(buffer, 0, n);
        }
      }
    } catch (IOException e) {
      // It was killed.
    }
  }

  private static Class<?> main(String name) throws ClassNotFoundException {
    for (String at : List.of("", "consumer.", "consumer.group.")) {
      try {
        return Class.forName("org.apache.kafka.tools." + at + name);
      } catch (ClassNotFoundException e) {
        // The next package, then.
      }
    }
    throw new ClassNotFoundException(name);
  }

  private void hooks() {
    for (Runnable hook : hooks) if (hooks.remove(hook)) hook.run();
  }

  /** Starts it; it runs beside the test. */
  static Tool start(String name, String... args) {
    return new Tool(name, "", args);
  }

  /** Runs it to its end, with exit code 0. */
  static Tool run(String name, String... args) throws Exception {
    return piped("", name, args);
  }

  /** Runs it to its end with this as its input, with exit code 0. */
  static Tool piped(String stdin, String name, String... args) throws Exception {
    return new Tool(name, stdin, args).end(0);
  }

  /** As `start`, but in a JVM of its own: for tools that do their last work when the JVM ends. */
  static Tool alone(String name, String... args) throws Exception {
    List<String> command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java", "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"), main(name).getName()));
    command.addAll(List.of(args));
    return new Tool(name, new ProcessBuilder(command).start());
  }

  /** Runs it to its end, with exit code 1. */
  static Tool fails(String name, String... args) throws Exception {
    return new Tool(name, "", args).end(1);
  }

  /** Waits for its end. */
  Tool end(int wanted) throws Exception {
    thread.join(END_S * 1000L);
    if (thread.isAlive()) {
      AssertionError e = new AssertionError(this + " did not end");
      e.setStackTrace(thread.getStackTrace());
      throw e;
    }
    if (code != wanted) throw new AssertionError(this + " gave " + code);
    return this;
  }

  /** Kills it, without a last word to the broker. */
  void kill() throws Exception {
    process.destroyForcibly().waitFor();
  }

  /** Waits until so many lines match in full. */
  Tool prints(int lines, String regex) throws Exception {
    Harness.eventually(true, lines + " lines like " + regex + " from " + name, () -> {
      if (count(regex) >= lines) return true;
      throw new IllegalStateException(toString());
    });
    return this;
  }

  /** What it printed, without empty lines and spaces at either end. */
  List<String> lines() {
    List<String> all = new ArrayList<>();
    for (String l : out().split("\n")) if (!l.isBlank()) all.add(l.strip());
    return all;
  }

  synchronized String out() {
    return out.toString(StandardCharsets.UTF_8);
  }

  synchronized String err() {
    return err.toString(StandardCharsets.UTF_8);
  }

  /** One line that matches, in full. */
  Tool says(String regex) {
    Pattern p = Pattern.compile(regex);
    for (String l : lines()) if (p.matcher(l).matches()) return this;
    throw new AssertionError("no line like " + regex + " from " + this);
  }

  /** No line that matches, in full. */
  Tool saysNot(String regex) {
    Pattern p = Pattern.compile(regex);
    for (String l : lines()) if (p.matcher(l).matches()) throw new AssertionError("said \"" + l + "\": " + this);
    return this;
  }

  /** How many lines match in full, so far. */
  int count(String regex) {
    Pattern p = Pattern.compile(regex);
    int n = 0;
    for (String l : lines()) if (p.matcher(l).matches()) n++;
    return n;
  }

  /** A table: one row a line whose first cell is `first` (any when null), cells by column name. Spaces within a cell are not understood. */
  List<Map<String, String>> table(String first) {
    List<Map<String, String>> rows = new ArrayList<>();
    String[] head = null;
    for (String l : lines()) {
      String[] cells = l.split("\\s+");
      if (cells[0].equals("GROUP")) head = cells;
      else if (head != null && (first == null || cells[0].equals(first))) {
        Map<String, String> row = new LinkedHashMap<>();
        for (int i = 0; i < Math.min(head.length, cells.length); i++) row.put(head[i], cells[i]);
        rows.add(row);
      }
    }
    return rows;
  }

  @Override
  public String toString() {
    return name + "\n--- out\n" + end(out()) + "\n--- err\n" + end(err()) + "\n---";
  }

  private static String end(String s) {
    return s.length() <= SHOWN ? s : "..." + s.substring(s.length() - SHOWN);
  }
}
