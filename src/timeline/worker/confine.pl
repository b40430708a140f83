# Becomes a program that can reach no files, sockets and processes but those it is told. confinement.ts says why it is this one that does it.
#
#   confine.pl --probe                            prints the version of the kernel's Landlock, or fails
#   confine.pl [RULE ...] -- PROGRAM [ARGUMENT ...]
#
# RULE is KIND:PATH: `read` and `list` for all below, `write` for all below (made where it is not there yet), `edit` for a file, `run`
# for a program; or `families:N,N`, the families of sockets that can be made, none when it is left out. What is not there is no error.
use strict;
use warnings;
use Config;
use Errno qw(ENOENT);

# Numbers of system calls differ between machines; those of Landlock and of io_uring do not. `audit` is the machine's name in a filter.
my %MACHINES = (
  x86_64  => { prctl => 157, socket => 41,  audit => 0xC000003E },
  aarch64 => { prctl => 167, socket => 198, audit => 0xC00000B7 },
);
my ($CREATE_RULESET, $ADD_RULE, $RESTRICT_SELF, $IO_URING_SETUP) = (444, 445, 446, 425);
# From the second version on files can be renamed from one folder into another.
my ($ABI_MIN, $ABI_OF_TRUNCATE, $ABI_OF_TCP, $ABI_OF_SCOPES) = (2, 3, 4, 6);
my ($SET_NO_NEW_PRIVILEGES, $SET_SECCOMP, $SECCOMP_FILTER) = (38, 22, 2);

my ($EXECUTE, $WRITE_FILE, $READ_FILE, $READ_DIR, $REMOVE_DIR, $REMOVE_FILE) = map { 1 << $_ } 0 .. 5;
my ($MAKE_DIR, $MAKE_FILE, $REFER, $TRUNCATE) = map { 1 << $_ } (7, 8, 13, 14);
my $ALL_OF_ABI_2 = (1 << 14) - 1;
my ($BIND_TCP, $SCOPE_ABSTRACT_SOCKETS, $SCOPE_SIGNALS) = (1, 1, 2);
my ($O_PATH, $O_CLOEXEC) = (010000000, 02000000);

my $machine = $MACHINES{ (split /-/, $Config{archname})[0] } or fail('this machine is not known');
my $abi = syscall($CREATE_RULESET, 0, 0, 1);
fail('the kernel has no Landlock, or one that is too old') if $abi < $ABI_MIN;
if (($ARGV[0] // '') eq '--probe') {
  print "$abi\n";
  exit 0;
}

my $truncate = $abi >= $ABI_OF_TRUNCATE ? $TRUNCATE : 0;
my $edit = $READ_FILE | $WRITE_FILE | $truncate;
my %RIGHTS = (
  read  => $READ_FILE | $READ_DIR,
  list  => $READ_DIR,
  write => $READ_DIR | $edit | $REMOVE_DIR | $REMOVE_FILE | $MAKE_DIR | $MAKE_FILE | $REFER,
  edit  => $edit,
  run   => $READ_FILE | $EXECUTE,
);
my $OF_FILES = $EXECUTE | $edit;

my $attributes = pack 'Q', $ALL_OF_ABI_2 | $truncate;
$attributes .= pack 'Q', $BIND_TCP if $abi >= $ABI_OF_TCP;
$attributes .= pack 'Q', $SCOPE_ABSTRACT_SOCKETS | $SCOPE_SIGNALS if $abi >= $ABI_OF_SCOPES;
my $ruleset = syscall $CREATE_RULESET, $attributes, length $attributes, 0;
fail("no rules can be made: $!") if $ruleset < 0;

my @families;
while (defined(my $argument = shift @ARGV)) {
  last if $argument eq '--';
  my ($kind, $value) = $argument =~ /^([a-z]+):(.+)$/s or fail("not a rule: $argument");
  if ($kind eq 'families') { @families = split /,/, $value; next }
  my $rights = $RIGHTS{$kind} or fail("not a rule: $argument");
  allow($value, $rights, $kind eq 'write');
}
fail('no program was named') unless @ARGV;

# Without the first the others cannot be. What is running from here on may do less, and so may all that it starts.
syscall($machine->{prctl}, $SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 or fail("new privileges were not given up: $!");
syscall($RESTRICT_SELF, $ruleset, 0) == 0 or fail("the rules were not taken on: $!");
my $filter = filter(@families);
my $program = pack 'S x6 P', length($filter) / 8, $filter;
syscall($machine->{prctl}, $SET_SECCOMP, $SECCOMP_FILTER, $program, 0, 0) == 0 or fail("sockets were not shut: $!");
exec { $ARGV[0] } @ARGV or fail("$ARGV[0] cannot be run: $!");

# What is still to be made is allowed below the nearest folder that is there.
sub allow {
  my ($path, $rights, $isMade) = @_;
  my $opened;
  until (sysopen $opened, $path, $O_PATH | $O_CLOEXEC) {
    return unless $isMade && $! == ENOENT && $path =~ s{/+[^/]+/*$}{};
    $path = '/' if $path eq '';
  }
  $rights &= $OF_FILES unless -d $opened;
  return if $rights == 0;
  my $rule = pack 'Q l', $rights, fileno $opened;
  syscall($ADD_RULE, $ruleset, 1, $rule, 0) == 0 or fail("$path: no rule can be made: $!");
}

# A filter of system calls: sockets of these families alone, nothing that makes them by another way, and no calls of another machine.
sub filter {
  my @allowed = @_;
  my ($LOAD, $EQUAL, $AT_LEAST, $RETURN) = (0x20, 0x15, 0x35, 0x06);
  my ($ALLOW, $REFUSE) = (0x7FFF0000, 0x00050000 | 13);
  my @steps = (
    [$LOAD, 0, 0, 4],
    [$EQUAL, 0, 'refuse', $machine->{audit}],
    [$LOAD, 0, 0, 0],
    [$AT_LEAST, 'refuse', 0, 0x40000000],
    [$EQUAL, 'refuse', 0, $IO_URING_SETUP],
    [$EQUAL, 0, 'allow', $machine->{socket}],
    [$LOAD, 0, 0, 16],
    (map { [$EQUAL, 'allow', 0, $_] } @allowed),
    [$RETURN, 0, 0, $REFUSE],
    [$RETURN, 0, 0, $ALLOW],
  );
  my %at = (refuse => $#steps - 1, allow => $#steps);
  my $bytes = '';
  for my $no (0 .. $#steps) {
    my ($code, @jumps) = @{ $steps[$no] };
    my $operand = pop @jumps;
    $bytes .= pack 'S C C L', $code, (map { exists $at{$_} ? $at{$_} - $no - 1 : $_ } @jumps), $operand;
  }
  return $bytes;
}

sub fail {
  print STDERR "confine: $_[0]\n";
  exit 126;
}
